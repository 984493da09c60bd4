package cli

import (
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/jobs/filejobs"
)

const sortHelp = `Read files and write their records sorted by the fields that --by names: by the
first field, then by the second if the first is equal, and so on. Records
that are equal in all these fields keep the order of the input. The header stays
at the beginning. Files can have any size: data that does not fit in memory goes
to temporary files, which may need about twice the space of the unpacked input.

A field is a name or a number and may be followed by
  :n     compare numbers exactly, with any number of digits. A value that is not a
         number is an error with file and line, or skipped with --skip-bad
  :desc  in descending order (:asc is ascending, the default)
Without :n, bytes are compared, as by "LC_ALL=C sort". A missing value (an empty
field; null or no member in jsonl) comes before all others, or after them with
:desc.

A record may be as long as a hundredth of --memory; its fields named by --by
count twice.

--merge merges FILEs that are already sorted by these fields, without temporary
files. A record in the wrong place is an error with file and line. All files are
open at the same time. With more files than the process may open, or than memory
allows (about two per MiB of --memory, at most 1000, or one per 50 MiB if files
are compressed), groups of them are first merged to temporary files. Each open
file has an equal share of three fifths of --memory, and a record may be as long
as a tenth of this share. If files are merged in groups, a record may also be no
longer than a hundredth of --memory.

At the end, the number, the bytes and a checksum (a sum of xxh3-128 hashes) of
the records written are compared with those of the records read.`

func newSort(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sort --by F[:n][:desc][,F…] [flags] [--] FILE…",
		Short: "Sort files by fields",
		Long:  sortHelp + formatsHelp,
		Example: `  partd sort --by "Origin State" birdstrikes.csv
  partd sort --by "size:n:desc,name" -o sorted.csv.zst part-*.csv
  partd sort --by size:n --where "kind = 'go'" --columns path,size files.csv
  partd sort --by 3:n --no-header --format tsv --memory 1GiB -
  partd sort --by time --merge -o all.csv monday.csv tuesday.csv`,
	}
	by := cmd.Flags().String("by", "", "sort by these `FIELDS`, separated by commas, each with :n, :desc or both")
	merge := cmd.Flags().Bool("merge", false, "merge FILEs that are already sorted, without sorting them again")
	fileCommand(a, cmd, newOutputFlags(cmd), func() (filejobs.Engine, error) {
		if *by == "" {
			return nil, cliutil.Usagef("--by is missing: set it to the fields to sort by")
		}
		return filejobs.Sort(*by, *merge), nil
	})
	runsTables(cmd, map[string]string{"by": "by", "force": "force", "json": "json", "memory": "memory", "merge": "merge", "output": "output", "progress": "progress", "to-format": "to-format"})
	return cmd
}
