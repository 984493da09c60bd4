package cli

import (
	"encoding/base64"
	"fmt"
	"io"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/progress"
	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/jobs/filejobs"
)

const shuffleHelp = `Read files and append each record to the key in its field FIELD. Records are
stored byte for byte, in the order of the input; only a missing newline at the
end of a file is added. FIELD is the exact name of a column. If there is no
such column, it is a number from 1, or from the end (--by=-1 is the last). For
jsonl, it is the name of a member of the object on each line. Separate several
FIELDs by commas (--by A,B) and quote names that contain commas; the key is then
a line of CSV, such as Oslo,2024. --partitions N uses only the N keys from 0 to
N-1: all records with the same fields go to the same key.

Formats: the extension of a file's name gives its format (.csv; .tsv, .tab;
.jsonl, .ndjson; otherwise text). --format overrides it. To read standard input,
write - and set --format.
  csv    RFC 4180: a quoted field may contain commas, line endings, and doubled
         quotes; its key is the unquoted value. A quote inside an unquoted field
         is data.
  tsv    fields separated by tabs, without quotes
  jsonl  a JSON object per line; the key is a string, or a number, true or false
         as written
  text   fields separated by white space, or by --sep; no header
Content compressed with gzip, zstd, bzip2 or lz4 is detected. A byte order mark
at the beginning of a file is skipped. UTF-16 with such a mark, and files in the
encoding that --encoding names, are stored as UTF-8. A line may end in CR LF.

The header of csv and tsv is not stored: the store has only records. All files
must have the same header. With --no-header the first record is data, and FIELD
is a number. Empty lines are skipped and counted; in tsv with one column they
are records with an empty field.

A record is bad if it has more or fewer fields than the header, lacks the field,
or has a key of more than 65,535 bytes. The first bad record is an error that
names file and line; --skip-bad instead skips and counts bad records. A record
may be as long as a quarter of --memory.

The store must have no keys, so that running a command twice does not duplicate
data; --append and --replace accept a store with keys. Nothing is stored until
all files have been found and their headers compared.

A column with many values makes many keys. A log: store can have millions of
keys. A file: store needs one file per key: at least 0.2 ms and 4 KiB of disk. A
column of unique IDs is rarely the right field.

At the end, the bytes of the records read are compared with those in the store; a
difference is an error. --stats also reads a log: store back and compares a
checksum of all keys and records (a sum of xxh3-128 hashes).`

func newShuffle(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "shuffle --by FIELD [flags] [--] FILE…",
		Short: "Split files by a field into a store",
		Long:  shuffleHelp + selectionHelp,
		Example: `  partd shuffle --by "Origin State" birdstrikes.csv
  partd shuffle --by "before(path, '/')" --columns path,size files.csv
  partd shuffle --by user --replace --store log:users events-*.jsonl
  partd shuffle --by=-1 --format text --store 'log:out?compression=zstd' list.txt
  zcat log.csv.gz | partd shuffle --by 3 --no-header --format csv -`,
		Args: cliutil.CheckArgCount(1, -1, fileArgument),
	}
	fs := cmd.Flags()
	f := shuffleFlags{
		by:         fs.String("by", "", "use this `FIELD` as the key: a name or a number (1 is the first field, -1 the last)"),
		partitions: fs.Int("partitions", 0, "use only `N` keys, 0 to N-1, selected by a hash of the fields"),
		url:        storeFlag(cmd),
		add:        fs.Bool("append", false, "append to the content of the store"),
		replace:    fs.Bool("replace", false, "first drop the content of the store"),
		stats:      fs.Bool("stats", false, "also read a log: store back, compare a checksum of all records and show it"),
		inputFlags: newInputFlags(cmd, "write the summary as a JSON object", ", or run the command for each with --append"),
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
		if !layout.HasHeader() { // with a header, any text may be the name of a column
			if _, err := filejobs.ResolveFields(*f.by, layout, nil); err != nil {
				return cliutil.Usagef("--by %q: %w", *f.by, err)
			}
		}
		words := targetWords{
			store: "store", repeated: "Running the command again would duplicate them", allStored: "All records are stored in %s",
			uncompared: "were not compared with the input", appended: "these records",
			afterDropped: "The content of %s was dropped; the new content is incomplete",
		}
		t := target{app: a, url: *f.url, add: *f.add, replace: *f.replace, words: words}
		j := &shuffleRun{target: t, flags: f, layout: layout}
		j.compareAdvice = func() string {
			return fmt.Sprintf("compare %d bytes with the output of \"%s\"", j.bytes, a.commandLine("stat"+storeArgument(t.url)))
		}
		if err := j.run(cmd.Context(), args); err != nil {
			return err
		}
		return j.summary()
	}
	return cmd
}

type summaryRecord struct {
	Store         string      `json:"store"`
	Records       int64       `json:"records"`
	Bytes         int64       `json:"bytes"` // size of the records
	Keys          int64       `json:"keys"`  // number of keys in the store
	Files         int         `json:"files"`
	ReadBytes     int64       `json:"read_bytes"`
	HeaderBytes   int64       `json:"header_bytes"`
	BlankLines    int64       `json:"blank_lines"`
	BadRecords    int64       `json:"bad_records"`
	Filtered      int64       `json:"filtered_records,omitempty"`
	Filled        int64       `json:"filled_records,omitempty"`
	Cut           int64       `json:"cut_records,omitempty"`
	AddedNewlines int64       `json:"added_newlines"`
	Seconds       float64     `json:"seconds"`
	Proof         string      `json:"proof,omitempty"`
	Largest       []keyRecord `json:"largest"`
}

func (j *shuffleRun) summary() error {
	if !*j.flags.quiet {
		writeNotes(j.app.errOut, j.notes())
	} else if !*j.flags.asJSON {
		return nil
	}
	t := &j.tally
	return writeResult(j.app.out, *j.flags.asJSON, summaryRecord{
		Store:         j.url,
		Records:       j.appended,
		Bytes:         j.bytes,
		Keys:          j.statsAfter.Keys,
		Files:         len(j.in.Files),
		ReadBytes:     t.ReadBytes,
		HeaderBytes:   t.HeaderBytes,
		BlankLines:    t.BlankLines,
		BadRecords:    t.BadRecords,
		Filtered:      t.Dropped,
		Filled:        t.Mended.Filled,
		Cut:           t.Mended.Cut,
		AddedNewlines: t.AddedNewlines,
		Seconds:       j.seconds,
		Proof:         j.checksumProof.result,
		Largest:       keysJSON(j.largestKeys),
	}, j.writeSummary)
}

func (j *shuffleRun) writeSummary(w io.Writer) {
	t := &j.tally
	fmt.Fprintf(w, "records   %d\nkeys      %d\nbytes     %s\n", j.appended, j.statsAfter.Keys, withUnit(j.bytes))
	writeTime(w, t.ReadBytes, j.seconds)
	var skipped []string
	if j.in.Columns != nil {
		skipped = append(skipped, "the header")
	}
	if t.BlankLines > 0 {
		skipped = append(skipped, textfmt.Plural(t.BlankLines, "empty line"))
	}
	if t.Dropped > 0 {
		skipped = append(skipped, textfmt.Plural(t.Dropped, "record")+" by --where")
	}
	if t.BadRecords > 0 {
		skipped = append(skipped, textfmt.Plural(t.BadRecords, "bad record"))
	}
	if len(skipped) > 0 {
		fmt.Fprintf(w, "skipped   %s\n", strings.Join(skipped, ", "))
	}
	if t.FirstBadErr != nil {
		fmt.Fprintf(w, "          first bad record: %v\n", t.FirstBadErr)
	}
	if text := t.Mended.String(); text != "" {
		fmt.Fprintf(w, "ragged    %s\n", text)
	}
	if t.AddedNewlines > 0 {
		fmt.Fprintf(w, "added     newline at the end of %s\n", textfmt.Plural(t.AddedNewlines, "file"))
	}
	if j.checksumProof.result != "" {
		fmt.Fprintf(w, "proof     %s\n", j.checksumProof.result)
	} else if *j.flags.stats {
		fmt.Fprintf(w, "proof     %s bytes read, and the store grew by the same number (it has no checksum of records)\n", humanize.Comma(j.bytes))
	}
	if len(j.largestKeys) == 0 {
		return
	}
	fmt.Fprintln(w, "\nlargest keys")
	drawChart(w, j.largestKeys, progress.TerminalWidth(j.app.out, chartWidth))
	store := storeArgument(j.url)
	fmt.Fprintf(w, "\nread them back\n  %s\n  %s\n", j.app.commandLine("get"+store+keyArgument(j.largestKeys[0])), j.app.commandLine("keys"+store))
}

// notes returns warnings about likely mistakes.
func (j *shuffleRun) notes() []string {
	var notes []string
	const minRecords = 1000 // among fewer records, unique keys are not unusual
	if newKeys := j.statsAfter.Keys - j.statsBefore.Keys; j.appended >= minRecords && newKeys >= j.appended/10*9 {
		notes = append(notes, fmt.Sprintf("nearly every record has a unique key: is --by %s the right field?", textfmt.ShellQuote(*j.flags.by)))
	}
	return append(notes, j.in.Warnings(j.layout)...)
}

// keyArgument returns a key as an argument of a shell command, with a space before it.
func keyArgument(k partd.KeyInfo) string {
	switch {
	case strings.Contains(k.Key, "\x00"): // arguments cannot contain NUL
		return " --base64 " + base64.StdEncoding.EncodeToString([]byte(k.Key))
	case strings.HasPrefix(k.Key, "-"):
		return " -- " + textfmt.ShellQuote(k.Key)
	}
	return " " + textfmt.ShellQuote(k.Key)
}
