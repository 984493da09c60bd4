// Package parted cuts rows that do not fit in memory into parts by the hash of their keys, so that all rows of a key
// are in one part. The rows wait in a log store as pieces of record batches.
package parted

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// Input is a sequence of rows with keys.
type Input struct {
	Name string // for errors
	Rows array.RecordReader
	By   []string // the columns of the key; the same number in each input
}

// Options configures [Each].
type Options struct {
	Memory int64 // approximate limit of memory for cutting, in bytes; it does not limit the function that gets the parts
	// PartBytes limits the total size of the rows of a part, over all inputs, in bytes of Arrow's memory. Only a part with
	// a single key exceeds it. 0 means an eighth of Memory.
	PartBytes int64
	// Parts is the number of parts; some may be empty. If it is set, PartBytes is ignored. 0 means as many parts
	// as PartBytes requires.
	Parts int
	Temp  string // directory for temporary data; "" means the system's
}

const maxParts = 1 << 16

// Part contains all rows of some keys.
type Part struct {
	Inputs []PartInput // in the order of the inputs; some may have no rows
	OneKey bool        // all rows have the same key, so that the part cannot be cut again
	Key    string      // text of the key if OneKey is set, for messages
}

// Bytes returns the size of the rows in bytes.
func (p *Part) Bytes() (sum int64) {
	for _, in := range p.Inputs {
		sum += in.Bytes
	}
	return sum
}

// PartInput consists of a part's rows of one input.
type PartInput struct {
	Schema      *arrow.Schema // that of the input, but with plain columns instead of dictionaries and views
	Rows, Bytes int64
	read        func(ctx context.Context) sorted.Batches
}

// Read yields the rows. It can be called several times, but only until the function that got the part returns. Rows
// with equal keys are in the order of the input.
func (p *PartInput) Read(ctx context.Context) sorted.Batches { return p.read(ctx) }

// Each reads all inputs, and then calls f for each part with rows, one after another, in any order. If all inputs are
// empty, it calls f once for an empty part. Keys are equal as [sorted.SQLKeyAppender] defines it.
func Each(ctx context.Context, inputs []Input, o *Options, f func(ctx context.Context, p *Part) error) error {
	j := &job{Options: *o, f: f}
	j.PartBytes = cmp.Or(j.PartBytes, j.Memory/8)
	var err error
	j.inputs, err = checkInputs(inputs, o)
	if err != nil {
		return err
	}
	rows := make([]sorted.Batches, len(inputs))
	for i, in := range inputs {
		rows[i] = arrowsafe.Each(in.Rows, func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
			j.rowsRead += b.NumRows()
			return schema.Convert(b, j.inputs[i].schema)
		})
	}
	err = j.cut(ctx, rows, 0)
	if err == nil && j.rowsParted != j.rowsRead {
		err = fmt.Errorf("%d rows were read, but the parts have %d rows", j.rowsRead, j.rowsParted)
	}
	return err
}

type job struct {
	Options
	f                    func(ctx context.Context, p *Part) error
	inputs               []input
	rowsRead, rowsParted int64
}

// content describes a bucket.
type content struct {
	inputs []PartInput
	bytes  int64
	hash   uint64 // of the first key
	hashes int    // number of different hashes; 2 means more than one
}

// cut distributes rows to buckets, and runs the parts.
func (j *job) cut(ctx context.Context, rows []sorted.Batches, level int) (err error) {
	const defaultCount = 256 // eight levels use all bits of a hash, so that a bucket of the last level has a single hash
	b := &Buckets{Count: cmp.Or(j.Parts, defaultCount), Level: level, Memory: j.Memory / 4 >> level, Temp: j.Temp}
	defer func() { err = errors.Join(err, b.Close()) }()
	contents := make([]content, b.Count)
	for i, batches := range rows {
		for block, err := range sorted.Ahead(sorted.Blocks(sorted.Blocks(batches, sorted.SmallBatch), j.blockBytes), 1) {
			if err == nil {
				err = j.add(ctx, b, contents, i, block)
				block.Release()
			}
			if err != nil {
				return j.inputs[i].wrap(err)
			}
		}
	}
	parts := j.chooseParts(contents)
	if len(parts) == 0 && level == 0 {
		parts = [][]int{nil}
	}
	for _, buckets := range parts {
		if err := canceled.Err(ctx); err != nil {
			return err
		}
		if err := j.run(ctx, b, contents, buckets); err != nil {
			return err
		}
	}
	return nil
}

// MaxBlock limits the rows that are joined, in bytes, because offsets in a text column have 32 bits. The next batch, of
// up to 1 GiB, can still be joined with them.
const MaxBlock = 256 << 20

func (j *job) blockBytes() int64 { return min(j.Memory/16, MaxBlock) }

// add adds a block of an input to buckets.
func (j *job) add(ctx context.Context, b *Buckets, contents []content, input int, block arrow.RecordBatch) error {
	numbers, err := NumberRows(block, j.inputs[input].by, sorted.SQLKeyAppender, func(key []byte) int {
		hash := Hash(key)
		c := &contents[b.Of(hash)]
		switch {
		case c.hashes == 0:
			c.hash, c.hashes = hash, 1
		case c.hash != hash:
			c.hashes = 2
		}
		return b.Of(hash)
	})
	if err != nil {
		return err
	}
	for _, g := range GroupRows(numbers, b.Count) {
		rows, err := take.Batch(block, g.Rows)
		if err != nil {
			return err
		}
		c := &contents[g.Number]
		if c.inputs == nil {
			c.inputs = make([]PartInput, len(j.inputs))
		}
		size := util.TotalRecordSize(rows)
		c.bytes += size
		c.inputs[input].Bytes += size
		c.inputs[input].Rows += rows.NumRows()
		if _, err := b.Add(ctx, input, g.Number, rows); err != nil {
			return err
		}
	}
	return b.Flush(ctx)
}

// chooseParts returns the buckets of each part.
func (j *job) chooseParts(contents []content) (parts [][]int) {
	bytes := int64(0) // of the last part
	for bucket, c := range contents {
		if c.hashes == 0 {
			continue
		}
		if j.Parts > 0 || len(parts) == 0 || bytes+c.bytes > j.PartBytes {
			parts, bytes = append(parts, nil), 0
		}
		last := len(parts) - 1
		parts[last] = append(parts[last], bucket)
		bytes += c.bytes
	}
	return parts
}

// run calls f for a part, or cuts it again if it is too large.
func (j *job) run(ctx context.Context, b *Buckets, contents []content, buckets []int) error {
	isSingle := len(buckets) == 1
	if isSingle && j.Parts == 0 && contents[buckets[0]].bytes > j.PartBytes && contents[buckets[0]].hashes > 1 {
		rows := make([]sorted.Batches, len(j.inputs))
		for i, in := range j.inputs {
			rows[i] = b.Read(ctx, i, buckets[0], in.schema)
		}
		return j.cut(ctx, rows, b.Level+1)
	}
	p := &Part{Inputs: make([]PartInput, len(j.inputs)), OneKey: isSingle && contents[buckets[0]].hashes == 1}
	for i := range p.Inputs {
		in := &p.Inputs[i]
		in.Schema = j.inputs[i].schema
		for _, bucket := range buckets {
			in.Bytes += contents[bucket].inputs[i].Bytes
			in.Rows += contents[bucket].inputs[i].Rows
		}
		j.rowsParted += in.Rows
		in.read = func(ctx context.Context) sorted.Batches { return j.read(ctx, b, i, buckets, in.Rows) }
		if p.OneKey && p.Key == "" && in.Rows > 0 {
			var err error
			p.Key, err = j.inputs[i].firstKey(b.Read(ctx, i, buckets[0], in.Schema))
			if err != nil {
				return err
			}
		}
	}
	return j.f(ctx, p)
}

// read yields the rows of an input in buckets. If the number of rows differs from the parameter rows, it ends with an
// error.
func (j *job) read(ctx context.Context, b *Buckets, input int, buckets []int, rows int64) sorted.Batches {
	return sorted.Blocks(func(yield func(arrow.RecordBatch, error) bool) {
		n := int64(0)
		for _, bucket := range buckets {
			for batch, err := range b.Read(ctx, input, bucket, j.inputs[input].schema) {
				if err == nil {
					n += batch.NumRows()
				}
				if !yield(batch, err) || err != nil {
					return
				}
			}
		}
		if n != rows {
			yield(nil, fmt.Errorf("temporary data: %d rows were written, but %d rows were read", rows, n))
		}
	}, func() int64 { return min(j.blockBytes(), 1<<20) })
}
