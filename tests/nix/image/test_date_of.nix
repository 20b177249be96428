# When an image was made, by what its lock says.
{ nix }:
let
  dateOf =
    lock: locked:
    nix.scope.bind {
      platform.debian = "amd64";
      inherit lock locked;
    } nix.dateOf;
  suite = architecture: date: { inherit architecture date; };
  lock.releases = {
    bookworm.suites = [
      (suite "amd64" "2026-07-11T10:16:37Z")
      (suite "amd64" "2026-11-28T14:09:31Z")
      (suite "arm64" "2026-12-24T00:00:00Z")
    ];
    trixie.suites = [ (suite "amd64" "2026-11-29T00:53:14Z") ];
  };
  locked = {
    release = "bookworm";
    debs = [ "any" ];
  };
  commit = last-modified: dateOf { flake-inputs.nixpkgs = { inherit last-modified; }; } { };
in
{
  "it is that of the newest index of its own release and processor: tools and other platforms are not in it" = {
    expr = dateOf lock locked;
    expected = "2026-11-28T14:09:31Z";
  };
  "what is installed into a base image counts, too" = {
    expr = dateOf lock (locked // { base-image.added.release = "trixie"; });
    expected = "2026-11-29T00:53:14Z";
  };
  "where no moment is named it is that of all files" = {
    expr = dateOf lock (removeAttrs locked [ "debs" ]);
    expected = "1970-01-01T00:00:01Z";
  };
  "a repository's commit counts by its date" = {
    expr = map commit [
      1709164799
      1709164800
      1735689599
      951827696
      4107542400
    ];
    expected = [
      "2024-02-28T23:59:59Z"
      "2024-02-29T00:00:00Z"
      "2024-12-31T23:59:59Z"
      "2000-02-29T12:34:56Z"
      "2100-03-01T00:00:00Z"
    ];
  };
}
