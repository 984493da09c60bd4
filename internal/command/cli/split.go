package cli

import (
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/jobs/filejobs"
)

const splitHelp = `Split the records of files by the value of a field, or by the values of several
fields separated by commas, and write one file per key to the directory DIR.
Each file begins with the header, and keeps its records in the order of the
input. Its extension is that of the first FILE, unless --to-format names another
format. There can be any number of keys: only one file is open at a time, and
data that does not fit in memory goes to temporary files in the --tmp directory.

Each file is named after its key: the value or, for several fields, the values as
a line of csv. Bytes other than letters, digits and "-_.() " are written as %XX.
The file for missing values is named %. If a key is too long for a file name, the
name is %h followed by the key's SHA-256 hash. If a file would become larger than
--max-file-size, its records continue in NAME~2, NAME~3 and so on, each with the
header. A file with a single record may be larger.

DIR must be empty, or not exist. --force also accepts other directories: it
replaces files with the same names, and keeps others. The files appear only when
all of them are complete: a run that fails leaves DIR unchanged. Until then they
are in a temporary directory in DIR or, if DIR does not exist yet, next to it.

At the end, the number, the bytes and a checksum (a sum of xxh3-128 hashes) of
the records written are compared with those of the records read.`

func newSplit(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "split --by F[,F…] --dir DIR [flags] [--] FILE…",
		Short: "Split files into one file per key",
		Long:  splitHelp + selectionHelp,
		Example: `  partd split --by "Origin State" --dir states birdstrikes.csv
  partd split --by user,day --dir users --max-file-size 100MiB log-*.csv.gz
  partd split --by "month(time)" --columns time,user --dir months log.csv
  partd split --by=-1 --no-header --format tsv --dir parts --force -`,
	}
	fs := cmd.Flags()
	var o filejobs.SplitOptions
	var maxSize cliutil.Size
	fs.StringVar(&o.By, "by", "", "write one file for each value of these `FIELDS`, separated by commas")
	fs.StringVar(&o.Dir, "dir", "", "write the files to the directory `DIR`")
	fs.Var(&maxSize, "max-file-size", "continue in another file when a file reaches this `SIZE`")
	out := directoryFlags(cmd, "by default that of the input", "write to a directory that is not empty, and replace files with the same names")
	fileCommand(a, cmd, out, func() (filejobs.Engine, error) {
		o.MaxSize = maxSize.Bytes
		switch {
		case o.By == "":
			return nil, cliutil.Usagef("--by is missing: set it to the fields whose values name the files")
		case o.Dir == "":
			return nil, cliutil.Usagef("--dir is missing: set it to the directory for the files")
		}
		return filejobs.Split(o), nil
	})
	cliutil.Must(cmd.MarkFlagDirname("dir"))
	return cmd
}
