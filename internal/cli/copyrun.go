package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/progress"
)

type copyRun struct {
	target
	flags   copyFlags
	bar     *progress.Bar
	result  partd.CopyResult
	total   int64 // bytes of the source
	seconds float64
}

func newCopyRun(a *app, flags copyFlags) *copyRun {
	words := targetWords{
		store: "target", double: "what is there of the copy", all: "Everything is", uncompared: "was not compared", some: "the copy",
		afterDropped: "The store %s is",
	}
	return &copyRun{target: target{app: a, url: *flags.to, add: *flags.add, replace: *flags.replace, words: words}, flags: flags}
}

func (c *copyRun) run(ctx context.Context) (err error) {
	// Each store gets a half of what there is for stores.
	limitHeap(c.flags.memory.Bytes)
	half := func(url string) map[string]string {
		return map[string]string{"memory": fmt.Sprint(share(c.flags.memory.Bytes/2, url))}
	}
	from, err := openReadingWith(ctx, *c.flags.from, half(*c.flags.from))
	if err != nil {
		return err
	}
	defer closeStore(ctx, from, &err)
	to, err := c.app.open(ctx, c.url, half(c.url))
	if err != nil {
		return err
	}
	err = c.fill(ctx, to, from)
	closeStore(ctx, to, &err)
	if err != nil {
		return c.failed(err, c.result.Changed, "")
	}
	return c.summary()
}

// fill copies and compares.
func (c *copyRun) fill(ctx context.Context, to, from partd.Partd) (err error) {
	c.bar = progress.Start(c.app.err, !*c.flags.quiet && cliutil.ShowsProgress(*c.flags.progress, c.app.err))
	defer c.bar.Stop()
	start := time.Now()
	c.bar.Wait("looking at both stores", nil)
	// What the target holds may have been written through other layers.
	err = c.prepare(ctx, c.bar, to, bottom(to), func() error {
		return otherStore(ctx, to, from, c.url, *c.flags.from)
	})
	if err != nil {
		return err
	}
	var read atomic.Int64
	began := partd.CopyStage(-1)
	c.result, err = partd.Copy(ctx, to, from, &partd.CopyOptions{
		Append: c.add, From: *c.flags.from, To: c.url,
		BatchBytes: int(min(c.flags.memory.Bytes/128, 4<<20)),
		Progress: func(stage partd.CopyStage, bytes int64) {
			if stage != began {
				c.begin(ctx, stage, to, from, &read)
				began = stage
			}
			read.Store(bytes)
		},
	})
	switch {
	case errors.Is(err, partd.ErrCopyDiffers):
		c.enter(differs)
	case err == nil:
		c.enter(compared)
	}
	c.seconds = time.Since(start).Seconds()
	return err
}

// begin shows that a stage begins.
func (c *copyRun) begin(ctx context.Context, stage partd.CopyStage, to, from partd.Partd, read *atomic.Int64) {
	switch {
	case stage == partd.CopyFilling:
		c.bar.Count(sizeOf(ctx, from), read.Load)
	case stage == partd.CopyFlushing:
		c.total = read.Load()
		c.bar.Wait("writing the rest", memoryUsed(to))
	case c.add:
		c.enter(stored)
		c.bar.Wait("comparing", nil)
	default:
		c.enter(stored)
		c.bar.Count(c.total, read.Load)
	}
}

// sizeOf returns the bytes of a store, -1 where counting them means reading.
func sizeOf(ctx context.Context, store partd.Partd) int64 {
	if _, layered := store.(partd.Unwrapper); layered {
		return -1
	}
	st, err := partd.Stat(ctx, store)
	if err != nil {
		return -1 // reading will say why
	}
	return st.Bytes
}

// copyRecord is the summary of partd copy in JSON.
type copyRecord struct {
	From     string  `json:"from"`
	To       string  `json:"to"`
	Keys     int64   `json:"keys"`  // copied
	Bytes    int64   `json:"bytes"` // of their values, as both URLs read them
	Checksum string  `json:"checksum"`
	Compared string  `json:"compared"` // "checksum", or "bytes" with --append
	Seconds  float64 `json:"seconds"`
}

func (c *copyRun) summary() error {
	if *c.flags.quiet && !*c.flags.asJSON {
		return nil
	}
	r := copyRecord{*c.flags.from, c.url, c.result.Keys, c.result.Bytes, c.result.Checksum, "checksum", c.seconds}
	result := "both stores hold the same keys and values"
	if c.add {
		r.Compared, result = "bytes", "the target holds as many bytes more as the source has"
	}
	return show(c.app.out, *c.flags.asJSON, r, func(w io.Writer) {
		fmt.Fprintf(w, "from      %s\nto        %s\nkeys      %d\nbytes     %s\n", r.From, r.To, r.Keys, withUnit(r.Bytes))
		writeTime(w, r.Bytes, r.Seconds)
		fmt.Fprintf(w, "checksum  %s\nresult    %s\n", r.Checksum, result)
	})
}
