package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/progress"
	"github.com/go-partd/partd/internal/command/cliutil"
)

const copyHelp = `Copy every key with its value from one store to another. Each URL's prefixes
apply to its store, so a copy can have another compression or be another kind of
store. Both stores are read and written in parts that fit in --memory. The
source is opened for reading only and is not changed.

A target that already has keys is an error without --append or --replace, so
running a command twice does not duplicate data. --replace first drops the
content of the target. --append adds each value to the end of the key's value.
If either store is on a server, a test key is first written to the target and
removed, to check that the target is not the source under another name.

At the end, the whole target is read again. Its numbers of keys and bytes and a
checksum of all keys with their values (a sum of 128-bit hashes) are compared
with those of the source; a difference is an error. With --append, only the
number of added bytes is compared, because the target also has older values.

Values are cut into new pieces of up to 1 MiB, depending on --memory: larger
pieces compress better than many small appends.`

type copyFlags struct {
	from, to, progress              *string
	appends, replace, asJSON, quiet *bool
	memory                          *cliutil.Size
}

func newCopy(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "copy --from URL --to URL [flags]",
		Short: "Copy one store to another and compare the two",
		Long:  copyHelp,
		Example: `  partd copy --from zlib+file:old --to zstd+log:new
  partd copy --from log:partd-out --to 'zstd+log:small?zstd.level=10' --replace
  partd copy --from bz2+file:a --to snappy+file:b --json --progress never`,
	}
	fs := cmd.Flags()
	f := copyFlags{
		from:     urlFlag(cmd, "from", "", "`URL` of the store to read"),
		to:       urlFlag(cmd, "to", "", "`URL` of the store to write"),
		appends:  fs.Bool("append", false, "append to the content of the target"),
		replace:  fs.Bool("replace", false, "first drop the content of the target"),
		memory:   memoryFlag(fs),
		progress: cliutil.ProgressFlag(cmd),
		quiet:    fs.BoolP("quiet", "q", false, "show no progress and no summary"),
		asJSON:   jsonFlag(cmd, "write the summary as one JSON object"),
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.check(cmd.Context()); err != nil {
			return err
		}
		words := targetWords{
			store: "target", repeated: "Running the command again would duplicate the part already copied", allStored: "Everything is stored in %s",
			uncompared: "was not compared", appended: "the copy", afterDropped: "The store %s is incomplete",
		}
		c := &copyRun{target: target{app: a, url: *f.to, add: *f.appends, replace: *f.replace, words: words}, flags: f}
		return c.run(cmd.Context())
	}
	return cmd
}

// check returns an error if the flags are invalid. It does not read the contents of the stores.
func (f *copyFlags) check(ctx context.Context) error {
	switch {
	case *f.from == "":
		return cliutil.Usagef("--from is missing: set it to the URL of the store to copy")
	case *f.to == "":
		return cliutil.Usagef("--to is missing: set it to the URL of the store to write")
	case *f.appends && *f.replace:
		return cliutil.Usagef("--append and --replace cannot be used together")
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

type copyRun struct {
	target
	flags   copyFlags
	bar     *progress.Bar
	result  partd.CopyResult
	total   int64 // size of the source in bytes
	seconds float64
}

func (c *copyRun) run(ctx context.Context) (err error) {
	// Both stores are open at the same time, so each may use half of the memory.
	cliutil.LimitHeap(c.flags.memory.Bytes)
	halfMemory := func(url string) map[string]string {
		return map[string]string{"memory": fmt.Sprint(storeShare(c.flags.memory.Bytes/2, url))}
	}
	from, err := openReading(ctx, *c.flags.from, halfMemory(*c.flags.from))
	if err != nil {
		return err
	}
	defer closeReading(from, &err)
	to, err := c.app.open(ctx, c.url, halfMemory(c.url))
	if err != nil {
		return err
	}
	err = c.fillTarget(ctx, to, from)
	closeStore(ctx, to, &err)
	if err != nil {
		return c.withStoreState(err, c.result.Changed, "")
	}
	return c.summary()
}

func (c *copyRun) fillTarget(ctx context.Context, to, from partd.Partd) (err error) {
	c.bar = progress.Start(c.app.errOut, !*c.flags.quiet && cliutil.ShowsProgress(*c.flags.progress, c.app.errOut))
	defer c.bar.Stop()
	start := time.Now()
	c.bar.Wait("checking both stores", nil)
	// prepare must look for existing keys in the bottom store, because the keys may have been written
	// with other layers, such as another compression.
	err = c.prepare(ctx, c.bar, to, cliutil.BottomStore(to), func() error {
		return checkDifferentStores(ctx, to, from, c.url, *c.flags.from)
	})
	if err != nil {
		return err
	}
	var read atomic.Int64
	currentStage := partd.CopyStage(-1)
	c.result, err = partd.Copy(ctx, to, from, &partd.CopyOptions{
		Append: c.add, From: *c.flags.from, To: c.url,
		BatchBytes: int(min(c.flags.memory.Bytes/128, 4<<20)),
		Progress: func(stage partd.CopyStage, bytes int64) {
			if stage != currentStage {
				c.begin(ctx, stage, to, from, &read)
				currentStage = stage
			}
			read.Store(bytes)
		},
	})
	switch {
	case errors.Is(err, partd.ErrCopyDiffers):
		c.setStage(differs)
	case err == nil:
		c.setStage(compared)
	}
	c.seconds = time.Since(start).Seconds()
	return err
}

func (c *copyRun) begin(ctx context.Context, stage partd.CopyStage, to, from partd.Partd, read *atomic.Int64) {
	switch {
	case stage == partd.CopyFilling:
		c.bar.Count(sizeOf(ctx, from), read.Load)
	case stage == partd.CopyFlushing:
		c.total = read.Load()
		c.bar.Wait("flushing", memoryUsed(to))
	case c.add:
		c.setStage(stored)
		c.bar.Wait("comparing", nil)
	default:
		c.setStage(stored)
		c.bar.Count(c.total, read.Load)
	}
}

// sizeOf returns the size of a store's values in bytes, or -1 if all values would have to be read to
// determine it.
func sizeOf(ctx context.Context, store partd.Partd) int64 {
	if _, hasLayers := store.(partd.Unwrapper); hasLayers {
		return -1
	}
	st, err := partd.Stat(ctx, store)
	if err != nil {
		return -1 // ignore the error, because reading will return it
	}
	return st.Bytes
}

type copyRecord struct {
	From     string  `json:"from"`
	To       string  `json:"to"`
	Keys     int64   `json:"keys"`  // number of keys copied
	Bytes    int64   `json:"bytes"` // size of their values, uncompressed
	Checksum string  `json:"checksum"`
	Compared string  `json:"compared"` // "checksum", or "bytes" with --append
	Seconds  float64 `json:"seconds"`
}

func (c *copyRun) summary() error {
	if *c.flags.quiet && !*c.flags.asJSON {
		return nil
	}
	r := copyRecord{*c.flags.from, c.url, c.result.Keys, c.result.Bytes, c.result.Sum.String(), "checksum", c.seconds}
	result := "both stores have the same keys and values"
	if c.add {
		r.Compared, result = "bytes", "the target has grown by the bytes of the source"
	}
	return writeResult(c.app.out, *c.flags.asJSON, r, func(w io.Writer) {
		fmt.Fprintf(w, "from      %s\nto        %s\nkeys      %d\nbytes     %s\n", r.From, r.To, r.Keys, withUnit(r.Bytes))
		writeTime(w, r.Bytes, r.Seconds)
		fmt.Fprintf(w, "checksum  %s\nresult    %s\n", r.Checksum, result)
	})
}
