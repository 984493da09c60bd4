package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/cliutil/sizeflag"
	"github.com/go-partd/partd/internal/filejobs"
	"github.com/go-partd/partd/internal/progress"
)

// formatsHelp is what the commands on files say of their input and output.
const formatsHelp = `

Input: a file's name gives its format (.csv; .tsv, .tab; .jsonl, .ndjson; else
text), --format overrides it, and standard input (-) needs it. Content compressed
with gzip, zstd, bzip2 or lz4 is detected. "partd shuffle --help" has more about
formats, fields and errors.

Output: standard output, or the file of -o, which appears whole or not at all; one
that exists is an error without --force. It is compressed if its name ends in .gz,
.zst, .bz2 or .lz4. --to-format gives the format, else the name, else the input.`

// fileCommand makes a command, which has its own flags already, one that makes
// files of files by an engine.
func fileCommand(a *app, cmd *cobra.Command, out outputFlags, engine func() (filejobs.Engine, error)) *inputFlags {
	cmd.Args = cliutil.Takes(1, -1, "FILE (- is standard input)")
	in := newInputFlags(cmd, "write what --stats shows as one JSON object", "")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		e, err := engine()
		if err != nil {
			return err
		}
		return runFiles(cmd, a, args, &in, &out, e)
	}
	return &in
}

func runFiles(cmd *cobra.Command, a *app, names []string, in *inputFlags, out *outputFlags, e filejobs.Engine) error {
	if err := in.check(cmd); err != nil {
		return err
	}
	from, err := in.layout(names)
	if err != nil {
		return err
	}
	to, err := out.toLayout(from)
	if err != nil {
		return err
	}
	temp, err := tempDirs(*out.tmp)
	if err != nil {
		return err
	}
	limitHeap(in.memory.Bytes)
	if out.toStdout() {
		a.catchBrokenPipe()
	}
	bar := progress.Start(a.err, in.showsProgress(a))
	defer bar.Stop()
	result, err := filejobs.Run(cmd.Context(), &filejobs.Options{
		Files: names, Output: *out.output, Force: *out.force, In: a.in, Out: a.out, From: from, To: to, SkipBad: *in.skipBad,
		Memory: filejobs.Memory(in.memory.Bytes), Threads: *in.threads, Temp: temp, Bar: bar,
	}, e)
	bar.Stop()
	if memory := new(filejobs.MemoryError); errors.As(err, &memory) {
		return cliutil.Usagef("--agg: these aggregates need at least --memory %s", sizeflag.Format(int64(memory.Needs)))
	} else if err != nil {
		return err
	}
	s := fileSummary{result, a, in, out}
	return s.write()
}
