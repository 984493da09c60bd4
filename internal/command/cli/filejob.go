package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/base/progress"
	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/jobs/filejobs"
	"github.com/go-partd/partd/internal/jobs/group"
	"github.com/go-partd/partd/internal/jobs/records"
)

// selectionHelp describes --where, --columns and parts of columns.
const selectionHelp = `

--where selects the records for which a condition is true, such as "size > 9 and
kind in ('a', 'b') and not (city is null)". If a column is compared with a number
or a date, its values must be numbers or dates. A comparison with a missing value
is never true.

--columns writes only the given columns, in the given order. "x as y" renames x.

--by and --where also accept a part of a column: before(x, '/') and after(x, '/')
are the text before and after the first separator. A third argument N selects the
Nth separator, counted from the end if N is negative, as in before(x, '/', -1).
prefix(x, N) is the first N characters. day(x) and month(x) are the day
(2026-01-31) and the month (2026-01) of a date as it is written, without
conversion to UTC. lower(x) is x in lower case, and nfc(x) is x in Unicode's
normalization form C.`

// formatsHelp describes input and output in the help of commands that process files.
const formatsHelp = selectionHelp + `

Input: the extension of a file's name gives its format (.csv; .tsv, .tab;
.jsonl, .ndjson; otherwise text). --format overrides it. To read standard input,
write - and set --format. Content compressed with gzip, zstd, bzip2 or lz4 is
detected. "partd shuffle --help" has more about formats, fields and errors.

Output: standard output, or the file named by --output, which appears only when
it is complete. --force replaces an existing file. The file is compressed if its
name ends in .gz, .zst, .bz2 or .lz4. Its format is set by --to-format, or else by
the extension of the file's name, or else it is the format of the input.`

// fileArgument names the FILE argument in the error for a command line without files.
const fileArgument = "FILE (to read standard input, use - with --format)"

// fileCommand sets up the arguments, input flags and RunE of a command that processes files with an
// engine. The command must already have the --by flag.
func fileCommand(a *app, cmd *cobra.Command, out outputFlags, engine func() (filejobs.Engine, error)) *inputFlags {
	cmd.Args = cliutil.CheckArgCount(1, -1, fileArgument)
	in := newInputFlags(cmd, "write the summary of --stats as a JSON object; for rows as JSON, use --to-format jsonl", "")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		e, err := engine()
		if err != nil {
			return err
		}
		if err := in.check(); err != nil {
			return err
		}
		from, err := in.layout(args)
		if err != nil {
			return err
		}
		return runFiles(cmd, a, args, from, &in, &out, e)
	}
	completeFields(cmd, "by", &in)
	return &in
}

func runFiles(cmd *cobra.Command, a *app, names []string, from records.Layout, in *inputFlags, out *outputFlags, e filejobs.Engine) error {
	to, err := out.toLayout(from)
	if err != nil {
		return err
	}
	temp, err := tempDirs(*out.tmp)
	if err != nil {
		return err
	}
	cliutil.LimitHeap(in.memory.Bytes)
	if out.toStdout() {
		a.catchBrokenPipe()
	}
	bar := progress.Start(a.errOut, in.showsProgress(a))
	defer bar.Stop()
	result, err := filejobs.Run(cmd.Context(), &filejobs.Options{
		Files: names, Output: *out.output, Force: *out.force, In: a.in, Out: a.out, From: from, To: to, SkipBad: in.text.SkipBad, Where: *in.where, Columns: *in.columns,
		Memory: filejobs.Memory(in.memory.Bytes), Threads: *in.threads, Temp: temp, Bar: bar,
	}, e)
	bar.Stop()
	if memory := new(group.MemoryError); errors.As(err, &memory) {
		return cliutil.Usagef("--agg: these aggregates need at least --memory %s", cliutil.FormatSize(int64(memory.Needs)))
	} else if err != nil {
		return err
	}
	s := fileSummary{result, a, in, out}
	return s.write()
}

type fileSummary struct {
	*filejobs.Result
	app *app
	in  *inputFlags
	out *outputFlags
}

func (s *fileSummary) write() error {
	if !*s.in.quiet {
		writeNotes(s.app.errOut, s.Notes)
	}
	if !*s.out.stats && !*s.in.asJSON {
		if text := s.Tally.Mended.String(); text != "" && !*s.in.quiet {
			fmt.Fprintln(s.app.errOut, "partd:", text)
		}
		if s.Tally.FirstBadErr == nil || *s.in.quiet {
			return nil
		}
		_, err := fmt.Fprintf(s.app.errOut, "partd: %s skipped; the first: %v\n", textfmt.Plural(s.Tally.BadRecords, "bad record"), s.Tally.FirstBadErr)
		return err
	}
	destination := s.app.out
	if s.out.toStdout() { // keep the summary separate from the data
		destination = s.app.errOut
	}
	if *s.in.quiet && !*s.in.asJSON {
		return nil
	}
	return writeResult(destination, *s.in.asJSON, s.record(), s.writeText)
}

func (s *fileSummary) record() map[string]any {
	t := &s.Tally
	summary := map[string]any{
		"records": t.Records, "record_bytes": t.RecordBytes, "files": len(s.Inputs.Files),
		"input_bytes": s.Inputs.BytesRead.Load(), "read_bytes": t.ReadBytes, "header_bytes": t.HeaderBytes,
		"blank_lines": t.BlankLines, "bad_records": t.BadRecords, "added_newlines": t.AddedNewlines,
		"seconds": s.Seconds, "verified": true,
	}
	if !s.out.toDirectory {
		summary["output"], summary["output_bytes"] = s.out.shownOutput(), s.Written
	}
	for _, l := range s.Lines {
		summary[l.Name] = l.Value
	}
	return summary
}

func (s *fileSummary) writeText(w io.Writer) {
	t := &s.Tally
	fmt.Fprintf(w, "records   %s, %s\n", humanize.Comma(t.Records), withUnit(t.RecordBytes))
	for _, l := range s.Lines {
		if l.Label != "" {
			fmt.Fprintf(w, "%-9s %s\n", l.Label, l.Text)
		}
	}
	if t.BlankLines > 0 || t.BadRecords > 0 {
		fmt.Fprintf(w, "skipped   %s, %s\n", textfmt.Plural(t.BlankLines, "empty line"), textfmt.Plural(t.BadRecords, "bad record"))
	}
	if t.FirstBadErr != nil {
		fmt.Fprintf(w, "          first bad record: %v\n", t.FirstBadErr)
	}
	if t.AddedNewlines > 0 {
		fmt.Fprintf(w, "added     newline at the end of %s\n", textfmt.Plural(t.AddedNewlines, "file"))
	}
	if !s.out.toDirectory {
		fmt.Fprintf(w, "output    %s, %s\n", s.out.shownOutput(), withUnit(s.Written))
	}
	size := "which is their full size"
	if s.Inputs.Size < 0 {
		size = "of unknown size"
	}
	fmt.Fprintf(w, "input     %s, %s bytes, %s\n", textfmt.Plural(int64(len(s.Inputs.Files)), "file"), humanize.Comma(s.Inputs.BytesRead.Load()), size)
	writeTime(w, t.ReadBytes, s.Seconds)
}
