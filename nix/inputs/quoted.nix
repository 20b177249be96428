# A text as one word of a shell's; `builtins.toJSON`'s quotes are no shell's.
text: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] text}'"
