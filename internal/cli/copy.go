package cli

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/cliutil/sizeflag"
)

const copyHelp = `Copy every key with its value from one store to another, through the layers that
the URLs name: to change a store's compression or its kind. Both stores are read
and written in parts that fit in --memory. The source is opened for reading only,
and nothing in it changes.

A target that already holds keys is an error without --append or --replace: so
running a command twice doubles nothing. --replace first drops what the target
holds; --append adds each value to the end of its key's. If either side is a
server, a test key is written to the target and removed again first, to see that
it is not the source under another name.

At the end the whole target is read again. Its keys and bytes are counted, and a
checksum over every key with its value (a sum of 128-bit hashes, in any order) is
compared with the source's; a difference is an error. With --append only the bytes
are counted, since values may be longer than those of the source.

Values are cut into new pieces of 1 MiB or less, as --memory allows: larger pieces
compress better than many small appends did.`

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
	}
	fs := cmd.Flags()
	f := copyFlags{
		from:     urlFlag(cmd, "from", "", "`URL` of the store to read"),
		to:       urlFlag(cmd, "to", "", "`URL` of the store to write"),
		add:      fs.Bool("append", false, "add to what the target holds"),
		replace:  fs.Bool("replace", false, "first drop what the target holds"),
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
		return cliutil.Usagef("--from is missing: give the URL of the store to copy")
	case *f.to == "":
		return cliutil.Usagef("--to is missing: give the URL of the store to write")
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
