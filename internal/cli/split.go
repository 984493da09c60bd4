package cli

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/tempdir"
	"github.com/go-partd/partd/stores"
)

const splitHelp = `Read files, and write their records to a file for each value of the field F, or of
several fields between commas, in the directory DIR. Each file begins with the
header, keeps its records in the order of the input, and has the extension of the
first FILE, or that of --to-format. Any number of values will do: one file is open
at a time, and what does not fit the memory goes to temporary files in DIR, or
beside it.

The name of a file is the value, with each byte that is no letter, digit or one of
"-_.() " written as %XX; of several fields, the values as a line of csv has them.
Missing values go to the file named %. A value too long for a name is named %h and
its SHA-256. With --max-file-size a file that would be larger goes on in NAME~2,
NAME~3 and so on, each with the header; one record alone may be larger.

A DIR that is not empty is an error without --force, which replaces files of the
same names and leaves others alone. DIR appears, with the directories above it, or
is filled, when all is written: a run that fails leaves it as it was.

At the end the records written are compared with those read: their number, their
bytes, and a checksum over all of them (the sum of xxh3-128 of each).`

// splitFlags are the flags of partd split beside those of all commands on files.
type splitFlags struct {
	by, dir *string
	most    *fileSize
}

func newSplit(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "split --by F[,F…] --dir DIR [flags] [--] FILE…",
		Short: "Write a file for each value of a field",
		Long:  splitHelp,
		Example: `  partd split --by "Origin State" --dir states birdstrikes.csv
  partd split --by user,day --dir users --max-file-size 100MiB log-*.csv.gz
  partd split --by=-1 --no-header --format tsv --dir parts --force -`,
		Args: takes(1, -1, "FILE (- is standard input)"),
	}
	fs := cmd.Flags()
	f := splitFlags{
		by:   fs.String("by", "", "the fields `F,…` whose values make the files"),
		dir:  fs.String("dir", "", "the directory `DIR` to write to"),
		most: new(fileSize),
	}
	fs.Var(f.most, "max-file-size", "the `SIZE` of a file at which it goes on in another")
	out := splitOutputFlags(cmd)
	in := newInputFlags(cmd, "write what --stats shows as one JSON object", "")
	completeFields(cmd, "by", &in)
	must(cmd.MarkFlagDirname("dir"))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case *f.by == "":
			return usagef("--by is missing: the values of which fields make the files?")
		case *f.dir == "":
			return usagef("--dir is missing: where do the files go?")
		}
		s := &splitting{flags: f, force: *out.force, first: args[0]}
		return runFiles(cmd, a, args, &in, &out, s, true)
	}
	return cmd
}

// splitOutputFlags are the output flags that make sense for a directory.
func splitOutputFlags(cmd *cobra.Command) outputFlags {
	fs := cmd.Flags()
	none := ""
	f := outputFlags{
		output:   &none,
		toFormat: toFormatFlag(cmd, "without it, that of the input"),
		force:    fs.Bool("force", false, "write to a directory that is not empty, and replace files of the same names"),
		stats:    statsFlag(fs),
		tmp:      tmpFlag(fs),
	}
	return f
}

// fileSize is a flag for the size of a file, 0 for no limit.
type fileSize int64

func (s *fileSize) String() string {
	if *s == 0 {
		return ""
	}
	return (*size)(s).String()
}

// Type is what pflag calls the kind of value.
func (s *fileSize) Type() string { return "size" }

// Set reads a size such as 100MiB.
func (s *fileSize) Set(text string) error {
	n, err := stores.ParseSize(text)
	if err != nil {
		return err
	}
	*s = fileSize(n)
	return nil
}

// emptyOrNone tells whether a directory exists, and whether it holds nothing.
func emptyOrNone(dir string) (exists, empty bool, err error) {
	info, err := os.Stat(dir)
	switch {
	case os.IsNotExist(err):
		return false, true, nil
	case err != nil:
		return false, false, err
	case !info.IsDir():
		return true, false, usagef("--dir %s is a file, not a directory", dir)
	}
	// What a killed run left in it does not count, and New removes it.
	if _, err := tempdir.New([]string{dir}, nil); err != nil {
		return true, false, err
	}
	return true, emptyDir(dir), nil
}

// makeParents makes a directory with those above it, and returns what removes
// those that were made, as far as they are empty.
func makeParents(dir string) (undo func(), err error) {
	var made []string
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !os.IsNotExist(err) {
			break
		}
		made = append(made, d)
	}
	return func() {
		for _, d := range made {
			_ = os.Remove(d) // another may have put something into it
		}
	}, os.MkdirAll(dir, 0o777)
}
