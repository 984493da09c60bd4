package cli

import (
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/jobs/filejobs"
)

const splitHelp = `Split the records of files by the value of a field, or by the values of several
fields separated by commas, and write one file per key to the directory DIR.
Each file begins with the header and keeps its records in the order of the
input. Its extension is that of the first FILE, unless --to-format names another
format. There can be any number of keys: only one file is open at a time, and
data that does not fit in memory goes to temporary files in the --tmp directory.

Each file is named after its key: the value or, for several fields, the values as
a line of csv. Bytes other than letters, digits and "-_.() " are written as %XX.
The file for missing values is named %. If a key is too long for a file name, the
name is %h followed by the key's SHA-256 hash. If the file system ignores case and
keys differ only in case, the first key keeps its name. The names of the others
have capital letters as %XX or, if that name is also taken, are %h and the hash.

If a file would become larger than --max-file-size, its records continue in
NAME~2, NAME~3 and so on, each with the header. A file with a single record may
be larger.

DIR must be empty or not exist, unless one of these flags is set:
  --append   add the records to the files of earlier runs: to the last part of a
             file with several parts. The files must have the same header
  --replace  replace the files of earlier runs, and remove the files for keys that
             this run does not have (all files, if the input has no records)
  --force    replace files with the same names. If files of other keys would
             remain, the run fails, because it would mix two results
Files of other keys are files with the same extension whose names split could have
written. Other files in DIR are never changed. --append and --replace fail if DIR
has files of earlier runs in the same format with another extension. A new file
keeps the permissions of the file that it continues or replaces.

The files appear only when all of them are complete: a run that fails leaves DIR
unchanged. Until then they are in a temporary directory in DIR or, if DIR does not
exist yet, next to it. If a run is killed while it moves files to DIR, the next
run with this DIR first moves the remaining files. It then continues only with
--replace or --force. Otherwise it fails, because it might add the same records
twice. --append copies the files to which it adds records.

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
  partd split --by user,day --dir users --append log-today.csv
  partd split --by=-1 --no-header --format tsv --dir parts --force -`,
	}
	fs := cmd.Flags()
	var o filejobs.SplitOptions
	var maxSize cliutil.Size
	fs.StringVar(&o.By, "by", "", "write one file for each value of these `FIELDS`, separated by commas")
	fs.StringVar(&o.Dir, "dir", "", "write the files to the directory `DIR`")
	fs.Var(&maxSize, "max-file-size", "continue in another file when a file reaches this `SIZE`")
	fs.BoolVar(&o.Append, "append", false, "add to the files of earlier runs")
	fs.BoolVar(&o.Replace, "replace", false, "replace the files of earlier runs and remove the files of other keys")
	out := directoryFlags(cmd, "by default the format of the input", "write to a directory that is not empty and replace files with the same names; files of other keys are an error")
	fileCommand(a, cmd, out, func() (filejobs.Engine, error) {
		o.MaxSize = maxSize.Bytes
		switch {
		case o.By == "":
			return nil, cliutil.Usagef("--by is missing: set it to the fields whose values name the files")
		case o.Append && (o.Replace || *out.force) || o.Replace && *out.force:
			return nil, cliutil.Usagef("only one of --append, --replace and --force can be set")
		case o.Dir == "":
			return nil, cliutil.Usagef("--dir is missing: set it to the directory for the files")
		}
		return filejobs.Split(o), nil
	})
	runsTables(cmd, map[string]string{"append": "append", "by": "by", "dir": "output", "force": "force", "json": "json", "memory": "memory", "progress": "progress", "replace": "replace", "to-format": "to-format"})
	cliutil.Must(cmd.MarkFlagDirname("dir"))
	return cmd
}
