package cli

import (
	"bufio"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/progress"
)

// copying is one run of partd copy.
type copying struct {
	app      *app
	flags    copyFlags
	from, to partd.Partd
	bar      *progress.Bar
	stage    stage
	held     bool  // the target held keys
	touched  bool  // something was appended, or may have been
	before   int64 // bytes that the target held
	read     ledger
	seconds  float64
}

func (c *copying) run(ctx context.Context) (err error) {
	// Each store gets a half of what there is for stores.
	whole, half := *c.flags.memory, *c.flags.memory/2
	whole.keepTo(*c.flags.from)
	share := func(url string) map[string]string {
		return map[string]string{"memory": fmt.Sprint(half.share(url))}
	}
	if c.from, err = openReadingWith(ctx, *c.flags.from, share(*c.flags.from)); err != nil {
		return err
	}
	defer closeStore(ctx, c.from, &err)
	if c.to, err = c.app.open(ctx, *c.flags.to, share(*c.flags.to)); err != nil {
		return err
	}
	err = c.fill(ctx)
	closeStore(ctx, c.to, &err)
	if err != nil {
		return c.failed(err)
	}
	return c.summary()
}

// fill copies and compares.
func (c *copying) fill(ctx context.Context) error {
	c.bar = progress.Start(c.app.err, !*c.flags.quiet && cliutil.ShowsProgress(*c.flags.progress, c.app.err))
	defer c.bar.Stop()
	start := time.Now()
	c.bar.Wait("looking at both stores", nil)
	if err := c.prepare(ctx); err != nil {
		return err
	}
	if err := c.move(ctx); err != nil {
		return err
	}
	if err := c.compare(ctx); err != nil {
		return err
	}
	c.enter(compared)
	c.seconds = time.Since(start).Seconds()
	return nil
}

// prepare makes sure that the target's content is what the flags say.
func (c *copying) prepare(ctx context.Context) error {
	// What it holds may have been written through other layers.
	for _, err := range partd.Keys(ctx, bottom(c.to)) {
		if err != nil {
			return err
		}
		c.held = true
		break
	}
	if c.held && !*c.flags.add && !*c.flags.replace {
		return fmt.Errorf("the store %s already holds keys: add to them with --append, or drop them first with --replace", *c.flags.to)
	}
	if c.held {
		if err := c.notItself(ctx); err != nil {
			return err
		}
	}
	if c.held && *c.flags.replace {
		c.enter(dropping)
		c.bar.Wait("dropping what the target holds", nil)
		if err := c.to.Drop(ctx); err != nil {
			return err
		}
	}
	c.enter(filling)
	if *c.flags.add {
		st, err := partd.Stat(ctx, c.to)
		c.before = st.Bytes
		return err
	}
	return nil
}

// size returns the bytes of the source, -1 where counting them means reading.
func (c *copying) size(ctx context.Context) int64 {
	if _, layered := c.from.(partd.Unwrapper); layered {
		return -1
	}
	st, err := partd.Stat(ctx, c.from)
	if err != nil {
		return -1 // reading will say why
	}
	return st.Bytes
}

// move copies every key.
func (c *copying) move(ctx context.Context) error {
	var read atomic.Int64
	total := c.size(ctx)
	c.bar.Count(total, read.Load)
	batch := newCopyBatch((*c.flags.memory / 2).share(*c.flags.to))
	write := func() error {
		if len(batch.entries) == 0 {
			return nil
		}
		c.touched = true
		err := c.to.Append(ctx, batch.entries...)
		batch.reset()
		return err
	}
	for chunk, err := range partd.Scan(ctx, c.from) {
		if err != nil {
			return fmt.Errorf("reading %s: %w", *c.flags.from, err)
		}
		c.read.add(chunk)
		read.Add(int64(len(chunk.Data)))
		if len(chunk.Data) == 0 && chunk.Last && chunk.Offset == 0 {
			c.touched = true
			if err := partd.SetOnce(ctx, c.to, chunk.Key, nil); err != nil {
				return err
			}
		}
		for data := chunk.Data; len(data) > 0; {
			if data = batch.take(chunk.Key, data); len(data) > 0 {
				if err := write(); err != nil {
					return err
				}
			}
		}
	}
	if err := write(); err != nil {
		return err
	}
	var left func() int64
	if m, ok := c.to.(partd.MemoryUser); ok {
		left = m.MemoryUsed
	}
	c.bar.Wait("writing the rest", left)
	if err := flush(ctx, c.to); err != nil {
		return err
	}
	c.enter(stored)
	return nil
}

// compare reads the target and compares it with what was read of the source.
func (c *copying) compare(ctx context.Context) error {
	if *c.flags.add {
		c.bar.Wait("comparing", nil)
		after, err := partd.Stat(ctx, c.to)
		if more := after.Bytes - c.before; err == nil && more != c.read.bytes {
			c.enter(differs)
			return fmt.Errorf("%d bytes were copied, but the store %s holds %d bytes more than before: "+
				"either another program writes to it, or it lost something", c.read.bytes, *c.flags.to, more)
		}
		return err
	}
	var found ledger
	var read atomic.Int64
	c.bar.Count(c.read.bytes, read.Load)
	for chunk, err := range partd.Scan(ctx, c.to) {
		if err != nil {
			return fmt.Errorf("reading %s back: %w", *c.flags.to, err)
		}
		found.add(chunk)
		read.Add(int64(len(chunk.Data)))
	}
	if diff := c.read.diff(&found); diff != "" {
		c.enter(differs)
		return fmt.Errorf("the store %s holds %s: either another program writes to it, or it lost something", *c.flags.to, diff)
	}
	return nil
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

func (c *copying) summary() error {
	if *c.flags.quiet && !*c.flags.asJSON {
		return nil
	}
	w := bufio.NewWriter(c.app.out)
	r := copyRecord{*c.flags.from, *c.flags.to, c.read.keys, c.read.bytes, c.read.checksum(), "checksum", c.seconds}
	result := "both stores hold the same keys and values"
	if *c.flags.add {
		r.Compared, result = "bytes", "the target holds as many bytes more as the source has"
	}
	if *c.flags.asJSON {
		if err := newEncoder(w).Encode(r); err != nil {
			return err
		}
		return w.Flush()
	}
	fmt.Fprintf(w, "from      %s\nto        %s\nkeys      %d\nbytes     %s\n", r.From, r.To, r.Keys, withUnit(r.Bytes))
	fmt.Fprintf(w, "time      %.2f s, %s\n", r.Seconds, progress.Rate(float64(r.Bytes)/max(r.Seconds, 1e-6)))
	fmt.Fprintf(w, "checksum  %s\nresult    %s\n", r.Checksum, result)
	return w.Flush()
}
