"""Dockerfile instructions: what each comes to, by the Dockerfile reference, and what is refused with its line."""

import pytest

from tungstenkit.spec.commands import Copy, Folder, Run
from tungstenkit.spec.dockerfile import parse
from tungstenkit.spec.dockerfile_words import Hole


def steps(*lines):
    parsed = parse(lines)
    assert parsed.problems == []
    return [step for segment in parsed.commands.segments for step in segment.steps]


def step(*lines):
    return steps(*lines)[-1]


def commands(*lines):
    parsed = parse(lines)
    assert parsed.problems == []
    return parsed.commands


def problems(*lines):
    return parse(lines).problems


def test_no_commands_come_to_nothing():
    assert parse([]).commands == commands("# only a comment")
    assert commands("").segments == ()


def test_a_run_is_a_shells_line_or_a_list():
    assert step("RUN a && b").argv == ("/bin/sh", "-c", "a && b")
    assert step('RUN ["a", "b c"]').argv == ("a", "b c")
    # As Docker: what is no list of strings is the shell's.
    assert step("RUN [ -e a ]").argv == ("/bin/sh", "-c", "[ -e a ]")


def test_a_shell_counts_from_where_it_stands():
    one, two = steps("RUN a", 'SHELL ["/bin/bash", "-ec"]\nRUN b')
    assert one.argv == ("/bin/sh", "-c", "a")
    assert two.argv == ("/bin/bash", "-ec", "b")


def test_lines_go_on_over_comments_and_empty_ones_and_from_entry_to_entry():
    (run,) = steps("RUN a \\\n# a comment\n\n  && b \\", "  && c")
    assert run.argv[2].split() == ["a", "&&", "b", "&&", "c"]
    assert run.where == "dockerfile_commands[0], line 1"


def test_names_are_written_in_any_case():
    assert step("run a").argv[2] == "a"


def test_env_and_arg_are_what_a_run_sees_where_it_stands():
    one, two = steps("ENV A=1\nARG B=2\nRUN x\nENV A=3 C='a b'\nRUN x")
    assert one.environment == {"A": "1", "B": "2"}
    assert two.environment == {"A": "3", "B": "2", "C": "a b"}
    assert commands("ENV A=1\nARG B=2").environment == {"A": "1"}


def test_env_wins_over_an_arg_of_its_name():
    assert step("ENV A=env\nARG A=arg\nRUN x").environment == {"A": "env"}


def test_one_line_of_env_sees_what_is_set_above_it():
    assert commands("ENV A=hello\nENV A=bye B=$A").environment == {"A": "bye", "B": "hello"}


def test_env_in_the_old_form_takes_the_whole_line():
    assert commands("ENV A one  two").environment == {"A": "one  two"}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("$A-x", "a-x"),
        ("${A}x", "ax"),
        (r"\$A", "$A"),
        ("'$A'", "$A"),
        ('"$A b"', "a b"),
        ("${A:-other}", "a"),
        ("${EMPTY:-other}", "other"),
        ("${EMPTY-other}", ""),
        ("${A:+set}", "set"),
        ("${EMPTY:+set}", ""),
        ("${EMPTY:-$A}", "a"),
        ("${EMPTY:-${A:+deep}}", "deep"),
        (r"a\ b", "a b"),
        (r'"a\"b\c"', r'a"b\c'),
        ("cost$", "cost$"),
    ],
)
def test_words_are_read_as_the_dockerfile_reference_says(word, value):
    assert commands(f"ENV A=a EMPTY=\nENV X={word}").environment["X"] == value


def test_variables_of_the_image_below_are_left_for_whoever_builds():
    assert commands("ENV PATH=/x:$PATH").environment["PATH"] == ("/x:", Hole(variable="PATH"))
    assert commands("ENV X=${L:+:$L}").environment["X"] == (
        Hole(variable="L", if_set=(":", Hole(variable="L"))),
    )
    assert commands("ENV X=${L:-none}").environment["X"] == (Hole(variable="L", if_empty="none"),)


def test_a_hole_stays_where_its_variable_is_used():
    assert commands("ENV A=/x:$PATH\nENV B=$A:/y").environment["B"] == ("/x:", Hole(variable="PATH"), ":/y")


def test_what_is_not_set_is_refused_but_in_env():
    assert problems("WORKDIR $NO/x") == [
        "dockerfile_commands[0], line 1: WORKDIR: $NO is set by no ENV or ARG above; set it there, or write its value"
    ]
    assert "only ENV can use it" in problems("ENV A=$PATH\nLABEL a=$A")[0]
    assert steps("WORKDIR ${NO:-/x}") == [
        Folder(where="dockerfile_commands[0], line 1", text="WORKDIR ${NO:-/x}", path="/x")
    ]


def test_an_arg_without_a_default_is_empty_which_is_said():
    parsed = parse(["ARG A\nRUN x"])
    assert parsed.commands.segments[0].steps[0].environment == {"A": ""}
    assert "ARG A has no default" in parsed.notices[0]


def test_an_arg_is_not_the_platforms_because_of_how_it_begins():
    assert parse(["ARG BUILD_DATE", "ARG TARGETS"]).problems == []


def test_a_working_directory_is_relative_to_the_one_before():
    assert [one.path for one in steps("WORKDIR a", "WORKDIR b/../c", "WORKDIR /d/")] == ["/a", "/a/c", "/d"]
    assert step("WORKDIR /a\nRUN x").cwd == "/a"
    assert step("RUN x").cwd == "/"


def test_a_copy_knows_its_folders_from_its_files():
    assert step("WORKDIR /w\nCOPY a b").destination == "/w/b"
    assert step("WORKDIR /w\nCOPY a .").destination == "/w/"
    assert step("COPY a b/").destination == "/b/"
    assert step('COPY ["a b", "/c d/"]').destination == "/c d/"
    assert [source.path for source in step("COPY a b /c/").sources] == ["a", "b"]


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("a/b.c", ("a", r"b\.c")),
        ("./a", ("a",)),
        ("/a", ("a",)),
        ("../a", ("a",)),
        (".", ()),
        ("*.c", (r"[^/]*\.c",)),
        ("a?/[x-z]", ("a[^/]", "[x-z]")),
        ("a[[]0]", (r"a[\[]0]",)),
        ("{a}", (r"\{a}",)),
        ("a.git", (r"a\.git",)),
        ("(a)+", (r"\(a\)\+",)),
    ],
)
def test_sources_are_patterns_within_the_models_folder(path, pattern):
    assert step(f"COPY {path} /x/").sources[0].pattern == pattern


def test_options_of_a_copy():
    made = step("COPY --chown=nonroot --chmod=0644 --link a /b")
    assert (made.uid, made.gid, made.mode) == (65532, 0, "0644")
    assert (step("ADD --chown=5:7 a /b").uid, step("ADD --chown=5:7 a /b").gid) == (5, 7)
    assert (step("COPY --chown=5 a /b").uid, step("COPY --chown=5 a /b").gid) == (5, 5)
    assert step("ADD a /b").kind == "add"
    assert step("COPY a /b").mode is None


def test_what_runs_together_is_one_segment():
    segments = commands("RUN a\nWORKDIR /x\nCOPY b .\nRUN c").segments
    assert [[type(one) for one in segment.steps] for segment in segments] == [[Run, Folder, Copy, Run]]


def test_what_has_the_network_runs_alone():
    found = commands("RUN a\nRUN --network=default b\nRUN c\nRUN --network=none d")
    assert [(segment.network, len(segment.steps)) for segment in found.segments] == [
        (False, 1),
        (True, 1),
        (False, 2),
    ]
    assert found.networks == [1]


def test_what_programs_make_belongs_to_the_user_in_force():
    found = commands("COPY a /a\nUSER nonroot\nRUN b\nUSER root\nRUN c\nUSER 7:8")
    assert [(segment.uid, segment.gid) for segment in found.segments] == [(65532, 0), (0, 0)]
    assert found.user == "7:8"
    assert commands("RUN a").user is None


def test_labels_and_ports():
    found = commands('LABEL a=b "c d"="e f"\nLABEL g h i\nEXPOSE 80 53/udp 8000-8002/TCP\nARG P=9\nEXPOSE $P')
    assert found.labels == {"a": "b", "c d": "e f", "g": "h i"}
    assert found.ports == ("80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp", "9/tcp")


@pytest.mark.parametrize(
    "line",
    [
        "RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev",
        "RUN apt-get update; apt-get install -yqq gcc libc6-dev && rm -rf /var/lib/apt/lists/*",
        "RUN set -eux && DEBIAN_FRONTEND=noninteractive apt install gcc \\\n  libc6-dev \\\n && apt-get clean",
        'RUN ["apt-get", "install", "-y", "gcc", "libc6-dev"]',
        "RUN --network=default apt-get install gcc libc6-dev",
        "RUN /usr/bin/apt-get install -y gcc libc6-dev",
        "RUN apt-get update >/dev/null 2>&1 && apt-get install gcc libc6-dev > /log",
    ],
)
def test_a_line_that_only_installs_packages_is_a_wish(line):
    found = commands(line)
    assert found.packages == ("gcc", "libc6-dev")
    assert found.segments == ()


def test_a_wish_may_name_a_version():
    assert commands("RUN apt-get install gcc=4:12.2.0-3").packages == ("gcc=4:12.2.0-3",)


@pytest.mark.parametrize("line", ["RUN apt-get update", "RUN apt-get clean && rm -rf /var/lib/apt/lists/*"])
def test_a_line_that_only_tidies_up_is_left_out(line):
    parsed = parse([line])
    assert (parsed.commands, parsed.problems) == (commands(), [])
    assert "left out" in parsed.notices[0]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("FROM debian", "base_image"),
        ("CMD x", "server"),
        ('ENTRYPOINT ["x"]', "server"),
        ("HEALTHCHECK NONE", "/readyz"),
        ("VOLUME /x", "leave it out"),
        ("STOPSIGNAL 9", "SIGTERM"),
        ("ONBUILD RUN x", "without ONBUILD"),
        ("MAINTAINER me", "LABEL maintainer"),
        ("FOO bar", "there are ADD, ARG"),
        ("RUN", "says nothing"),
        ("RUN --network=host x", "default and none"),
        ("RUN --mount=type=cache,target=/x y", "--mount is not known"),
        ("RUN cat <<EOF > /x\nhello\nRUN no\nEOF", "here-documents"),
        ("COPY <<EOF /x\nhello\nEOF", "here-documents"),
        ("RUN x \\", "nothing follows"),
        ("# escape=`\nRUN x", "escape"),
        ("COPY --from=other a b", "another image"),
        ("COPY --parents a b", "--parents is not known"),
        ("COPY --chown=bob a b", "'bob' is nobody"),
        ("COPY --chmod=u+x a b", "octal"),
        ("COPY a", "no destination"),
        ('COPY "a b" /c', '["a b", "/c/"]'),
        ("COPY ['a', 'b']", "double quotes"),
        ("RUN ['a', 'b']", "double quotes"),
        ("ADD git@no.invalid:a/b.git /x", "RUN --network=default"),
        ("ADD https://no.invalid/x /x", "RUN --network=default"),
        ("ENV HOME=/x", "/home/nonroot"),
        ("ENV A", "write A="),
        ("ENV A=1 B", "name=value"),
        ("ENV A='x", "nothing ends the quote"),
        ("ENV A=${B", "nothing ends the '${'"),
        ("ENV A=${B#x}", "not known"),
        ("ENV 1=2", "name of a variable"),
        ("ARG TARGETARCH", "uname -m"),
        ("LABEL mem_gb=3", "choose another name"),
        ("EXPOSE 99999", "not a port"),
        ("SHELL /bin/bash", "list"),
        ("USER bob", "nonroot"),
        ("USER root:bob", "no group"),
        ("RUN chown -R nonroot /x", "COPY --chown"),
        ("RUN a && useradd bob", "one user"),
        ("RUN sudo a", "root already"),
        (
            "RUN apt-get install gcc && gcc x.c",
            "write 'RUN apt-get install gcc', and the rest as a RUN of its own",
        ),
        (
            "RUN curl x && apt-get install gcc",
            "write 'RUN apt-get install gcc', and the rest as a RUN of its own",
        ),
        ("RUN apt-get install gcc || true && x", "a RUN of its own"),
        ("RUN apt-get install -t sid gcc", "-t has no meaning"),
        ("RUN apt-get install ./x.deb", "not the name of a Debian package"),
        ("RUN apt-get upgrade -y", "chosen when the model is locked"),
        ("RUN apt-get purge gcc", "leave this out"),
    ],
)
def test_what_can_not_be_is_refused_with_its_line(line, what):
    (problem,) = problems("RUN true\nRUN true", line)
    assert problem.startswith("dockerfile_commands[1], line 1: ")
    assert what in problem


def test_every_problem_is_told_at_once():
    assert [problem.split(":")[0] for problem in problems("FROM x", "RUN true\nCMD y", "USER bob")] == [
        "dockerfile_commands[0], line 1",
        "dockerfile_commands[1], line 2",
        "dockerfile_commands[2], line 1",
    ]


def test_what_changes_nothing_about_owners_is_run():
    assert step("RUN chown -R root:root /x").argv[2] == "chown -R root:root /x"
    assert step("RUN echo 'sudo chown x'").argv[2] == "echo 'sudo chown x'"


def test_pip_is_pointed_at_python_packages():
    assert "python_packages" in parse(["RUN pip install x"]).notices[0]
