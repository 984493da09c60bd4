package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/records"
)

const shuffleHelp = `Read files, and append each record to the key that its field FIELD holds. A
record is stored with its bytes as they are and in the order of the input; only
the newline that the last line of a file may lack is added. FIELD is the exact
name of a column, else its number from 1, or from the end (--by=-1 is the last).
For jsonl it is the name of a member of the object on each line. Several FIELDs
stand between commas (--by A,B), a name with a comma in quotes; their key is the
values as a line of CSV has them, as in Oslo,2024. --partitions N makes N keys, 0
to N-1: all records with the same fields go to one of them.

Formats: the name of a file tells (.csv; .tsv, .tab; .jsonl, .ndjson; else
text), --format overrules it, and standard input (-) needs it.
  csv    RFC 4180: a field in quotes may hold commas, line endings, and quotes
         written twice; its key is what they stand for. A quote inside a field
         that does not begin with one is data.
  tsv    fields between tabs, no quotes
  jsonl  a JSON object per line; the key is a string, or a number, true or false
         as written
  text   fields between runs of white space, or between --sep; no header
A byte order mark at the beginning of a file is left out. A line may end in CR LF.

The header of csv and tsv is not stored: the store holds records only. All files
must have the same one. With --no-header the first record is data, and FIELD is a
number. Empty lines are left out and counted.

A record with more or fewer fields than the header, without the field, or with a
key of more than 65,535 bytes is an error that names file and line; --skip-bad
leaves such records out and counts them. A record may be as long as a quarter of
--memory.

A store that holds keys already is an error without --append or --replace: so
running a command twice doubles nothing. Nothing is stored before all files were
found to be there, and their headers to be the same.

A column with many values makes many keys. A log: store takes millions of them; a
file: store makes a file for each: 0.2 ms or more, and 4 KiB of disk, per key. A
column of ids is seldom what is meant.

At the end the records read are compared with what the store holds, byte by byte
counted; a difference is an error.`

// shuffleFlags are the flags of partd shuffle.
type shuffleFlags struct {
	by, format, sep, progress, url  *string
	noHeader, skipBad, add, replace *bool
	asJSON, quiet                   *bool
	memory                          *size
	threads, partitions             *int
}

func newShuffle(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "shuffle --by FIELD [flags] [--] FILE…",
		Short: "Split files by the value of a field into a store",
		Long:  shuffleHelp,
		Example: `  partd shuffle --by "Origin State" birdstrikes.csv
  partd shuffle --by user --replace --store log:users events-*.jsonl
  partd shuffle --by=-1 --format text --store 'log:out?compression=zstd' list.txt
  zcat log.csv.gz | partd shuffle --by 3 --no-header --format csv -`,
		Args: takes(1, -1, "FILE (- is standard input)"),
	}
	fs := cmd.Flags()
	f := shuffleFlags{
		by:         fs.String("by", "", "the `FIELD` that holds the key: a name, or a number from 1 or from the end"),
		format:     fs.String("format", "", "`FORMAT` of the files: "+records.Names),
		noHeader:   fs.Bool("no-header", false, "csv and tsv: the first record is data"),
		sep:        fs.String("sep", "", "text: the `STRING` between fields; csv: the byte; \\t is a tab"),
		skipBad:    fs.Bool("skip-bad", false, "leave out and count records whose key cannot be found"),
		partitions: fs.Int("partitions", 0, "the key is one of `N` partitions, 0 to N-1, that the fields' hash picks"),
		url:        storeFlag(cmd),
		add:        fs.Bool("append", false, "add to what the store holds"),
		replace:    fs.Bool("replace", false, "drop what the store holds first"),
		memory:     memoryFlag(fs),
		threads:    threadsFlag(fs),
		progress:   progressFlag(cmd),
		quiet:      fs.BoolP("quiet", "q", false, "show no progress and no summary"),
		asJSON:     jsonFlag(cmd, "write the summary as one JSON object"),
	}
	complete(cmd, "format", "csv", "tsv", "jsonl", "text")
	if err := cmd.RegisterFlagCompletionFunc("by", completeColumns(&f)); err != nil {
		panic(err) // there is no such flag: the program is wrong
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := f.check(); err != nil {
			return err
		}
		if cmd.Flags().Changed("sep") && *f.sep == "" {
			return usagef("--sep is empty: leave it out for commas in csv, and for runs of white space in text")
		}
		layout, err := f.layout(args)
		if err != nil {
			return err
		}
		j := &job{app: a, flags: f, layout: layout, keys: keyer{*f.partitions}}
		return j.run(cmd.Context(), args)
	}
	return cmd
}

const mostPartitions = 1 << 20

// check finds what is wrong with the flags whatever the files hold.
func (f *shuffleFlags) check() error {
	switch {
	case *f.by == "":
		return usagef("--by is missing: which field holds the key?")
	case *f.add && *f.replace:
		return usagef("--append and --replace exclude each other")
	case *f.partitions < 0 || *f.partitions > mostPartitions:
		return usagef("--partitions is a number from 1 to %d, not %d; without it each value is a key", mostPartitions, *f.partitions)
	}
	if err := checkThreads(*f.threads); err != nil {
		return err
	}
	return checkProgress(*f.progress)
}

// layout returns what the flags and the files' names tell of the files.
func (f *shuffleFlags) layout(files []string) (records.Layout, error) {
	sep, err := unescape(*f.sep)
	l := records.Layout{NoHeader: *f.noHeader, Sep: sep}
	if err != nil {
		return l, usagef("--sep: %w", err)
	}
	if *f.format != "" {
		if l.Format, err = records.ParseFormat(*f.format); err != nil {
			return l, usagef("--format: %w", err)
		}
	}
	for i, file := range files {
		if *f.format != "" {
			break
		}
		if file == stdin {
			return l, usagef("standard input needs --format: %s", records.Names)
		}
		format := records.FormatOf(file)
		if i > 0 && format != l.Format {
			return l, usagef("%s looks like %s, and %s like %s: give --format, or run them one after the other with --append",
				files[0], l.Format, file, format)
		}
		l.Format = format
	}
	if err := l.Check(); err != nil {
		return l, usagef("--sep: %w", err)
	}
	if l.NoHeader && (l.Format == records.JSONL || l.Format == records.Text) {
		return l, usagef("--no-header is for csv and tsv; %s has no header", l.Format)
	}
	if l.HasHeader() {
		return l, nil // any text may be the name of a column
	}
	if _, err := resolveBy(*f.by, l, nil); err != nil {
		return l, usagef("--by %q: %w", *f.by, err)
	}
	return l, nil
}

// unescape reads a separator: \t is a tab, as it is hard to type, and \\ a
// backslash.
func unescape(text string) (string, error) {
	rest := strings.NewReplacer(`\\`, "", `\t`, "").Replace(text)
	if strings.Contains(rest, `\`) {
		return "", fmt.Errorf(`%q holds a backslash: \t is a tab, \\ is a backslash`, text)
	}
	return strings.NewReplacer(`\\`, `\`, `\t`, "\t").Replace(text), nil
}
