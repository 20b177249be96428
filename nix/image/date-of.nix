# When an image was made, as RFC 3339 has it: the newest moment that its lock names of what may be in it. So it is the
# same on whichever day it is built, and no newer than what it is made of.
#
# lock: the document's value. locked: its part for the platform. platform: the names of that.
{ lock, locked, platform }:
let
  added = locked.base-image.added or null;
  releases =
    (if locked.debs or [ ] == [ ] then [ ] else [ locked.release ])
    ++ (if added == null then [ ] else [ added.release ]);

  # Those of Debian's signed indexes. The moments of its snapshots are hours later, and were not reached when it was
  # locked.
  suites = builtins.filter (suite: suite.architecture or "amd64" == platform.debian) (
    builtins.concatMap (release: lock.releases.${release}.suites) releases
  );

  commits = builtins.attrValues (lock.flake-inputs or { });

  # Seconds since 1970 as a date: the days of a year are counted from March on, so that the leap day is the last.
  moment =
    seconds:
    let
      days = seconds / 86400 + 719468;
      rest = seconds - (seconds / 86400) * 86400;
      era = days / 146097;
      ofEra = days - era * 146097;
      year = (ofEra - ofEra / 1460 + ofEra / 36524 - ofEra / 146096) / 365;
      ofYear = ofEra - (365 * year + year / 4 - year / 100);
      month = (5 * ofYear + 2) / 153;
      isNext = month >= 10;
      two = number: if number < 10 then "0${toString number}" else toString number;
      date = builtins.concatStringsSep "-" [
        (toString (era * 400 + year + (if isNext then 1 else 0)))
        (two (if isNext then month - 9 else month + 3))
        (two (ofYear - (153 * month + 2) / 5 + 1))
      ];
      hours = rest / 3600;
      minutes = (rest - hours * 3600) / 60;
    in
    "${date}T${two hours}:${two minutes}:${two (rest - hours * 3600 - minutes * 60)}Z";
in
builtins.foldl' (newest: one: if newest < one then one else newest) "1970-01-01T00:00:01Z" (
  map (suite: suite.date) suites ++ map (commit: moment commit.last-modified) commits
)
