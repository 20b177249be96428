# One step of an export whose lock does not have its result yet: `nix-build seal-step.nix`.
#
# export: the folder. system: the platform that the step is for; this machine's. step: its name in `lib.steps`.
# again: not empty for the run with another clock, CPU and order. fakeTime: libfaketime's library, or empty.
# sha256: of the result, or empty where it is not known: Nix then fails, and says what it is.
# secrets: where the step asks for the values of its variables, or empty. certificates: a bundle to trust in place of
# the image's, as behind a proxy that inspects, or empty; like a mirror it is no input of the result.
{ export, system, step, again ? "", fakeTime ? "", sha256 ? "", secrets ? "", certificates ? "" }:
let
  file =
    name: path:
    if path == "" then
      null
    else
      builtins.path {
        inherit name;
        path = builtins.toPath path;
      };
  steps = ((import ../.).exported (/. + export)).lib.steps.${system};
in
steps.${step} {
  inherit secrets;
  again = again != "";
  fakeTime = file "libfaketime.so.1" fakeTime;
  certificates = file "certificates.crt" certificates;
  sha256 = if sha256 == "" then builtins.concatStringsSep "" (builtins.genList (_: "0") 64) else sha256;
}
