package cli

import (
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/cliutil/sizeflag"
	"github.com/go-partd/partd/internal/filejobs"
)

const splitHelp = `Read files, and write their records to a file for each value of the field F, or of
several fields separated by commas, in the directory DIR. Each file begins with
the header, keeps its records in the order of the input, and has the extension of
the first FILE, or that of --to-format. Any number of values will do: one file is
open at a time, and what does not fit in memory goes to temporary files in DIR, or
beside it.

A file's name is the value, with each byte that is not a letter, digit or one of
"-_.() " written as %XX; of several fields, the values as a line of csv has them.
Missing values go to the file named %. A value too long for a name is named %h and
its SHA-256. With --max-file-size a file that would be larger goes on in NAME~2,
NAME~3 and so on, each with the header; one record alone may be larger.

A DIR that is not empty is an error without --force, which replaces files of the
same names and leaves others alone. DIR appears, with the directories above it, or
is filled, once everything is written: a run that fails leaves it as it was.

At the end the records written are compared with those read: their number, their
bytes, and a checksum over all of them (the sum of xxh3-128 of each).`

func newSplit(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "split --by F[,F…] --dir DIR [flags] [--] FILE…",
		Short: "Write a file for each value of a field",
		Long:  splitHelp,
		Example: `  partd split --by "Origin State" --dir states birdstrikes.csv
  partd split --by user,day --dir users --max-file-size 100MiB log-*.csv.gz
  partd split --by=-1 --no-header --format tsv --dir parts --force -`,
	}
	fs := cmd.Flags()
	var o filejobs.SplitOptions
	var maxSize sizeflag.Size
	fs.StringVar(&o.By, "by", "", "the fields `F,…` whose values name the files")
	fs.StringVar(&o.Dir, "dir", "", "the directory `DIR` to write to")
	fs.Var(&maxSize, "max-file-size", "the `SIZE` at which a file goes on in another")
	out := directoryFlags(cmd, "without it, that of the input", "write to a directory that is not empty, and replace files of the same names")
	in := fileCommand(a, cmd, out, func() (filejobs.Engine, error) {
		switch o.MaxSize = maxSize.Bytes; {
		case o.By == "":
			return nil, cliutil.Usagef("--by is missing: give the fields whose values name the files")
		case o.Dir == "":
			return nil, cliutil.Usagef("--dir is missing: give the directory for the files")
		}
		return filejobs.Split(o), nil
	})
	completeFields(cmd, "by", in)
	must(cmd.MarkFlagDirname("dir"))
	return cmd
}
