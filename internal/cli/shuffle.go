package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/filejobs"
)

const shuffleHelp = `Read files, and append each record to the key in its field FIELD. Records are
stored byte for byte, in the order of the input; only a newline that the last line
of a file lacks is added. FIELD is the exact name of a column, else its number
from 1, or from the end (--by=-1 is the last). For jsonl it is the name of a
member of the object on each line. Separate several FIELDs by commas (--by A,B),
and quote a name with a comma; their key is the values as a line of CSV has them,
as in Oslo,2024. --partitions N makes N keys, 0 to N-1: all records with the same
fields go to one of them.

Formats: a file's name gives its format (.csv; .tsv, .tab; .jsonl, .ndjson; else
text), --format overrides it, and standard input (-) needs it.
  csv    RFC 4180: a field in quotes may hold commas, line endings, and quotes
         written twice; its key is what they stand for. A quote inside a field
         that does not begin with one is data.
  tsv    fields between tabs, no quotes
  jsonl  a JSON object per line; the key is a string, or a number, true or false
         as written
  text   fields between runs of white space, or between --sep; no header
Content compressed with gzip, zstd, bzip2 or lz4 is detected. A byte order mark at
the beginning of a file is skipped. A line may end in CR LF.

The header of csv and tsv is not stored: the store holds only records. All files
must have the same one. With --no-header the first record is data, and FIELD is a
number. Empty lines are skipped and counted; in tsv with one column they are
records with an empty field.

A record with more or fewer fields than the header, without the field, or with a
key of more than 65,535 bytes is an error that names file and line; --skip-bad
skips and counts such records. A record may be as long as a quarter of --memory.

A store that already holds keys is an error without --append or --replace: so
running a command twice doubles nothing. Nothing is stored before all files are
found and their headers compared.

A column with many values makes many keys. A log: store takes millions of them; a
file: store makes a file for each: 0.2 ms or more, and 4 KiB of disk, per key. A
column of ids is seldom what is meant.

At the end the records read are compared with what the store holds, counting
bytes; a difference is an error. With --stats a log: store is also read back, and
the sum of the hashes (xxh3-128) of all keys and records compared.`

type shuffleFlags struct {
	inputFlags
	by, url      *string
	add, replace *bool
	stats        *bool
	partitions   *int
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
		Args: cliutil.Takes(1, -1, "FILE (- is standard input)"),
	}
	fs := cmd.Flags()
	f := shuffleFlags{
		by:         fs.String("by", "", "the `FIELD` that holds the key: a name, or a number from 1 or from the end"),
		partitions: fs.Int("partitions", 0, "the key is one of `N` partitions, 0 to N-1, picked by the fields' hash"),
		url:        storeFlag(cmd),
		add:        fs.Bool("append", false, "add to what the store holds"),
		replace:    fs.Bool("replace", false, "first drop what the store holds"),
		stats:      fs.Bool("stats", false, "also compare a checksum of all records, reading back a log: store, and show it"),
		inputFlags: newInputFlags(cmd, "write the summary as one JSON object", ", or run them one after the other with --append"),
	}
	completeFields(cmd, "by", &f.inputFlags)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := f.check(cmd); err != nil {
			return err
		}
		layout, err := f.layout(args)
		if err != nil {
			return err
		}
		if !layout.HasHeader() { // else any text may be the name of a column
			if _, err := filejobs.ResolveFields(*f.by, layout, nil); err != nil {
				return cliutil.Usagef("--by %q: %w", *f.by, err)
			}
		}
		words := targetWords{
			store: "store", double: "them", all: "All records are", uncompared: "were not compared with what was read", some: "these records",
			afterDropped: "What %s held was dropped; what is there now is",
		}
		t := target{app: a, url: *f.url, add: *f.add, replace: *f.replace, words: words}
		j := &shuffleRun{target: t, flags: f, layout: layout}
		j.compareBy = func() string {
			return fmt.Sprintf("compare %d bytes with those of \"%s\"", j.bytes, a.called("stat"+storeArgument(t.url)))
		}
		return j.run(cmd.Context(), args)
	}
	return cmd
}

const maxPartitions = 1 << 20

// check finds what is wrong with the flags whatever the files hold.
func (f *shuffleFlags) check(cmd *cobra.Command) error {
	switch {
	case *f.by == "":
		return cliutil.Usagef("--by is missing: give the field that holds the key")
	case *f.add && *f.replace:
		return cliutil.Usagef("--append and --replace exclude each other")
	case cmd.Flags().Changed("partitions") && (*f.partitions < 1 || *f.partitions > maxPartitions):
		return cliutil.Usagef("--partitions is a number from 1 to %d, not %d", maxPartitions, *f.partitions)
	}
	return f.inputFlags.check(cmd)
}
