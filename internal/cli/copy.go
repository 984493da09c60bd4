package cli

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/cliutil/sizeflag"
)

const copyHelp = `Copy every key with its value from one store to another, through the layers that
the URLs name: so a store is compressed in another way, or becomes one of another
kind. Both stores are read and written in parts; --memory bounds what that takes.
The source is opened for reading only, and nothing in it is changed.

A target that holds keys already is an error without --append or --replace: so
running a command twice doubles nothing. --replace drops what the target holds;
--append adds each value to the end of what its key holds. With a server on either
side a key is put into the target and removed again first, to see that it is not
the source under another name.

At the end the whole target is read again. Its keys and bytes are counted, and a
checksum over every key with its value (a sum of 128-bit hashes, in any order) is
compared with that of what was read from the source; a difference is an error.
With --append only the bytes are counted, since values may be longer than those
of the source.

Values are cut into pieces anew, of 1 MiB or less as --memory allows: larger
pieces compress better than many small appends did.`

type copyFlags struct {
	from, to, progress          *string
	add, replace, asJSON, quiet *bool
	memory                      *sizeflag.Size
}

func newCopy(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "copy --from URL --to URL [flags]",
		Short: "Copy a store into another, compressed or not, and compare both",
		Long:  copyHelp,
		Example: `  partd copy --from zlib+file:old --to zstd+log:new
  partd copy --from log:partd-out --to 'zstd+log:small?zstd.level=10' --replace
  partd copy --from bz2+file:a --to snappy+file:b --json --progress never`,
		Args:              cliutil.Takes(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fs := cmd.Flags()
	f := copyFlags{
		from:     urlFlag(cmd, "from", "", "`URL` of the store to read"),
		to:       urlFlag(cmd, "to", "", "`URL` of the store to write"),
		add:      fs.Bool("append", false, "add to what the target holds"),
		replace:  fs.Bool("replace", false, "drop what the target holds first"),
		memory:   memoryFlag(fs),
		progress: cliutil.ProgressFlag(cmd),
		quiet:    fs.BoolP("quiet", "q", false, "show no progress and no summary"),
		asJSON:   jsonFlag(cmd, "write the summary as one JSON object"),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.check(cmd.Context()); err != nil {
			return err
		}
		return newCopyRun(a, f).run(cmd.Context())
	}
	return cmd
}

// check finds what is wrong with the flags, whatever the stores hold.
func (f *copyFlags) check(ctx context.Context) error {
	switch {
	case *f.from == "":
		return cliutil.Usagef("--from is missing: which store is to be copied?")
	case *f.to == "":
		return cliutil.Usagef("--to is missing: where is the copy to be?")
	case *f.add && *f.replace:
		return cliutil.Usagef("--append and --replace exclude each other")
	}
	for flag, url := range map[string]string{"from": *f.from, "to": *f.to} {
		if _, err := storeExists(ctx, flag, url); err != nil {
			return err
		}
	}
	_, from := cliutil.SplitURL(*f.from)
	_, to := cliutil.SplitURL(*f.to)
	fromInfo, fromErr := os.Stat(from)
	toInfo, toErr := os.Stat(to)
	if from == to || fromErr == nil && toErr == nil && os.SameFile(fromInfo, toInfo) {
		return cliutil.Usagef("--from and --to are the same store, %s", from)
	}
	return cliutil.CheckProgress(*f.progress)
}
