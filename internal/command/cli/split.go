package cli

import (
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/jobs/filejobs"
)

const splitHelp = `Read files, and write their records to a file for each value of the field F, or
of several fields separated by commas, in the directory DIR. Each file begins
with the header, keeps its records in the order of the input, and has the
extension of the first FILE, or that of --to-format. The number of values is not
limited: only one file is open at a time, and data that does not fit in memory
goes to temporary files in DIR, or next to it.

A file's name is the value. Each byte that is not a letter, digit or one of
"-_.() " is written as %XX. For several fields it is a line of csv. Missing
values go to the file named %. A value too long for a name is named %h and its
SHA-256. With --max-file-size a file that would be larger is continued in
NAME~2, NAME~3 and so on, each with the header; only a single record may be
larger.

A DIR that is not empty is an error without --force, which replaces files of the
same names and keeps others. DIR and its parents are created, or DIR is filled,
only when all files are written: a run that fails leaves DIR unchanged.

At the end the number, the bytes and a checksum (a sum of xxh3-128 hashes) of
the records written are compared with those of the records read.`

func newSplit(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "split --by F[,F…] --dir DIR [flags] [--] FILE…",
		Short: "Write a file for each value of a field",
		Long:  splitHelp + selectionHelp,
		Example: `  partd split --by "Origin State" --dir states birdstrikes.csv
  partd split --by user,day --dir users --max-file-size 100MiB log-*.csv.gz
  partd split --by "month(time)" --columns time,user --dir months log.csv
  partd split --by=-1 --no-header --format tsv --dir parts --force -`,
	}
	fs := cmd.Flags()
	var o filejobs.SplitOptions
	var maxSize cliutil.Size
	fs.StringVar(&o.By, "by", "", "write a file for each value of these `FIELDS`, separated by commas")
	fs.StringVar(&o.Dir, "dir", "", "write the files to the directory `DIR`")
	fs.Var(&maxSize, "max-file-size", "continue in another file when a file reaches this `SIZE`")
	out := directoryFlags(cmd, "by default that of the input", "write to a directory that is not empty, and replace files with the same names")
	in := fileCommand(a, cmd, out, func() (filejobs.Engine, error) {
		o.MaxSize = maxSize.Bytes
		switch {
		case o.By == "":
			return nil, cliutil.Usagef("--by is missing: set it to the fields whose values name the files")
		case o.Dir == "":
			return nil, cliutil.Usagef("--dir is missing: set it to the directory for the files")
		}
		return filejobs.Split(o), nil
	})
	completeFields(cmd, "by", in)
	cliutil.Must(cmd.MarkFlagDirname("dir"))
	return cmd
}
