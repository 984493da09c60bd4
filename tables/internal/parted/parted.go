// Package parted cuts rows that do not fit in memory into parts by the hash of their keys, so that all rows of a key
// are in one part. It stores the rows in a temporary log store, as pieces of record batches.
package parted

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/rows/batches"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/rows/sorted"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// Input is a sequence of rows with keys.
type Input struct {
	Name string // names the input in errors
	Rows array.RecordReader
	By   []string // key columns; their number must be the same in all inputs
}

// Options configures [Each].
type Options struct {
	Memory int64 // approximate limit of memory for cutting, in bytes; it does not limit the function that gets the parts
	// PartBytes limits the size of a part's rows from all inputs, in bytes of Arrow memory. Only a part with a single key
	// may exceed it. 0 means an eighth of Memory.
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
	OneKey bool        // whether all rows have the same key, so that the part cannot be cut again
	Key    string      // text of the key if OneKey is set, for messages

	job      *job
	store    *Buckets
	contents []content // descriptions of all buckets in store
	buckets  []int     // indices of the part's buckets
}

// Bytes returns the size of the rows in bytes.
func (p *Part) Bytes() (sum int64) {
	for _, in := range p.Inputs {
		sum += in.Bytes
	}
	return sum
}

// CanDivide reports whether the part has rows of several keys, so that Divide makes it smaller.
func (p *Part) CanDivide() bool { return !p.OneKey && p.Bytes() > 0 }

// Keep keeps the rows readable until the caller calls release, even if the function that got the part returns earlier.
// Each does not return before this call. CanDivide must be true.
func (p *Part) Keep() (release func()) {
	p.store.kept.Add(1)
	return p.store.kept.Done
}

// Divide cuts the rows again and calls f for each of the smaller parts. Each part has at most the given number of bytes,
// unless it has a single key. CanDivide must be true, and the rows must be readable (see Keep). Divide can run while the
// Each that made the part is still running.
func (p *Part) Divide(ctx context.Context, bytes int64, f func(ctx context.Context, p *Part) error) error {
	j := &job{Options: p.job.Options, f: f, inputs: p.job.inputs}
	j.Parts, j.PartBytes = 0, bytes
	for _, in := range p.Inputs {
		j.rowsRead += in.Rows
	}
	partContents := make([]content, len(p.contents)) // other buckets seem empty
	for _, bucket := range p.buckets {
		partContents[bucket] = p.contents[bucket]
	}
	return j.checkRows(j.runParts(ctx, p.store, partContents))
}

// PartInput consists of a part's rows of one input.
type PartInput struct {
	Schema      *arrow.Schema // schema of the input, with plain types instead of dictionaries and views
	Rows, Bytes int64
	read        func(ctx context.Context) batches.Seq
}

// Read yields the rows. It can be called several times, but only while the rows are readable: until the function that
// got the part returns, or longer with Keep. Rows with equal keys are in the order of the input.
func (p *PartInput) Read(ctx context.Context) batches.Seq { return p.read(ctx) }

// Each reads all inputs and then calls f for each part with rows, one after another, in any order. If all inputs are
// empty, it calls f once for an empty part. Keys are equal if [sorted.SQLKeyAppender] appends the same bytes for them.
func Each(ctx context.Context, inputs []Input, o *Options, f func(ctx context.Context, p *Part) error) (err error) {
	j := &job{Options: *o, f: f}
	j.PartBytes = cmp.Or(j.PartBytes, j.Memory/8)
	j.inputs, err = checkInputs(inputs, o)
	if err != nil {
		return err
	}
	rows := make([]batches.Seq, len(inputs))
	for i, in := range inputs {
		rows[i] = batches.Each(in.Rows, func(b arrow.RecordBatch) (arrow.RecordBatch, error) {
			j.rowsRead += b.NumRows()
			return schema.Convert(b, j.inputs[i].schema)
		})
	}
	return j.checkRows(j.cut(ctx, rows, 0))
}

// job is a call of Each or Divide.
type job struct {
	Options
	f                    func(ctx context.Context, p *Part) error
	inputs               []input
	rowsRead, rowsParted int64
}

// checkRows returns err. If err is nil, it returns an error unless the parts have all rows that were read.
func (j *job) checkRows(err error) error {
	if err == nil && j.rowsParted != j.rowsRead {
		err = fmt.Errorf("%d rows were read, but the parts have %d rows", j.rowsRead, j.rowsParted)
	}
	return err
}

// content describes a bucket.
type content struct {
	inputs []PartInput
	bytes  int64
	hashes int    // 0 if the bucket is empty, 1 if all rows have the same hash, otherwise 2
	common uint64 // the hash of more than half of the rows, if there is such a hash
	votes  int64  // lower bound for the number of rows with the hash common
}

// count counts n rows with a hash. It finds the common hash by the majority vote algorithm of Boyer and Moore.
func (c *content) count(hash uint64, n int64) {
	switch {
	case n == 0:
		return
	case c.hashes > 0 && c.common == hash:
		c.votes += n
		return
	case c.votes < n:
		c.common, c.votes = hash, n-c.votes
	default:
		c.votes -= n
	}
	c.hashes = min(c.hashes+1, 2)
}

// cut distributes the rows of each input to buckets and runs the parts.
func (j *job) cut(ctx context.Context, rowsOf []batches.Seq, level int) (err error) {
	const defaultCount = 256 // eight levels use all bits of a hash, so a bucket of the last level has a single hash
	b := &Buckets{Count: cmp.Or(j.Parts, defaultCount), Level: level, Memory: j.Memory / 4 >> level, Temp: j.Temp}
	defer func() {
		b.kept.Wait()
		err = errors.Join(err, b.Close())
	}()
	contents := make([]content, b.Count)
	for i, rows := range rowsOf {
		for block, err := range batches.Ahead(batches.Blocks(batches.Blocks(rows, batches.SmallBatch), j.blockBytes), 1) {
			if err == nil {
				err = j.add(ctx, b, contents, i, block)
				block.Release()
			}
			if err != nil {
				return j.inputs[i].wrap(err)
			}
		}
	}
	return j.runParts(ctx, b, contents)
}

// runParts runs the parts that consist of the given buckets. If all inputs are empty, it runs an empty part.
func (j *job) runParts(ctx context.Context, b *Buckets, contents []content) error {
	parts := j.chooseParts(contents)
	if len(parts) == 0 && b.Level == 0 {
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

// MaxBlock limits the size of rows that are joined to a batch, in bytes. Text columns have 32-bit offsets, so rows of
// this size can still be joined with one more batch of up to 1 GiB.
const MaxBlock = 256 << 20

func (j *job) blockBytes() int64 { return min(j.Memory/16, MaxBlock) }

// add adds a block of an input to buckets.
func (j *job) add(ctx context.Context, b *Buckets, contents []content, input int, block arrow.RecordBatch) error {
	// The function is called only for the first of adjacent rows with equal keys, so it counts the rows since the last call.
	var last uint64 // hash of the rows from begin on
	begin := 0
	numbers, err := NumberRows(block, j.inputs[input].by, sorted.SQLKeyAppender, func(key []byte, row int) int {
		contents[b.Of(last)].count(last, int64(row-begin))
		last, begin = Hash(key), row
		return b.Of(last)
	})
	if err != nil {
		return err
	}
	contents[b.Of(last)].count(last, block.NumRows()-int64(begin))
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

// chooseParts returns the indices of the buckets of each part.
func (j *job) chooseParts(contents []content) (parts [][]int) {
	partBytes := int64(0) // size of the last part
	for bucket, c := range contents {
		if c.hashes == 0 {
			continue
		}
		if j.Parts > 0 || len(parts) == 0 || partBytes+c.bytes > j.PartBytes {
			parts, partBytes = append(parts, nil), 0
		}
		last := len(parts) - 1
		parts[last] = append(parts[last], bucket)
		partBytes += c.bytes
	}
	return parts
}

// run calls f for the part that consists of the given buckets, or cuts the part again if it is too large.
func (j *job) run(ctx context.Context, b *Buckets, contents []content, buckets []int) error {
	isSingle := len(buckets) == 1
	if isSingle && j.Parts == 0 && contents[buckets[0]].bytes > j.PartBytes && contents[buckets[0]].hashes > 1 {
		return j.cutAgain(ctx, b, &contents[buckets[0]], buckets[0])
	}
	inputs := make([]PartInput, len(j.inputs))
	for i := range inputs {
		for _, bucket := range buckets {
			inputs[i].Bytes += contents[bucket].inputs[i].Bytes
			inputs[i].Rows += contents[bucket].inputs[i].Rows
		}
		inputs[i].read = func(ctx context.Context) batches.Seq { return j.readBuckets(ctx, b, i, buckets) }
	}
	isOneKey := isSingle && contents[buckets[0]].hashes == 1
	return j.runPart(ctx, &Part{Inputs: inputs, OneKey: isOneKey, job: j, store: b, contents: contents, buckets: buckets})
}

// cutAgain cuts the rows of a bucket. But if far more than half of the rows have one key, these rows become a part
// without being stored again.
func (j *job) cutAgain(ctx context.Context, b *Buckets, c *content, bucket int) error {
	var rowCount int64
	for _, in := range c.inputs {
		rowCount += in.Rows
	}
	hasCommon := 2*c.votes > rowCount
	commonInputs := slices.Clone(c.inputs)
	rows := make([]batches.Seq, len(j.inputs))
	for i := range rows {
		read := func(ctx context.Context) batches.Seq { return b.Read(ctx, i, bucket, j.inputs[i].schema) }
		rows[i] = read(ctx)
		if !hasCommon {
			continue
		}
		common := &commonInputs[i]
		common.read = func(ctx context.Context) batches.Seq {
			return j.filter(read(ctx), i, func(hash uint64) bool { return hash == c.common })
		}
		rows[i] = batches.Map(func(others arrow.RecordBatch) (arrow.RecordBatch, error) {
			common.Rows -= others.NumRows()
			common.Bytes = max(common.Bytes-util.TotalRecordSize(others), 1) // the difference is only an estimate
			return others, nil
		})(j.filter(read(ctx), i, func(hash uint64) bool { return hash != c.common }))
	}
	err := j.cut(ctx, rows, b.Level+1)
	if err != nil || !hasCommon {
		return err
	}
	for i := range commonInputs {
		if commonInputs[i].Rows == 0 {
			commonInputs[i].Bytes = 0
		}
	}
	return j.runPart(ctx, &Part{Inputs: commonInputs, OneKey: true})
}

// filter yields the rows of an input for which keep returns true. keep gets the hash of the row's key.
func (j *job) filter(rows batches.Seq, input int, keep func(hash uint64) bool) batches.Seq {
	return batches.Map(func(b arrow.RecordBatch) (arrow.RecordBatch, error) { return j.filterBatch(b, input, keep) })(rows)
}

// filterBatch returns the rows of b that filter yields, or nil if there are none. It takes ownership of b.
func (j *job) filterBatch(b arrow.RecordBatch, input int, keep func(hash uint64) bool) (arrow.RecordBatch, error) {
	numbers, err := NumberRows(b, j.inputs[input].by, sorted.SQLKeyAppender, func(key []byte, _ int) int {
		if keep(Hash(key)) {
			return 0
		}
		return 1
	})
	if err == nil && !slices.Contains(numbers, 1) {
		return b, nil
	}
	defer b.Release()
	if err != nil || !slices.Contains(numbers, 0) {
		return nil, err
	}
	return take.Batch(b, GroupRows(numbers, 2)[0].Rows)
}

// runPart sets the missing fields of a part and calls f for it.
func (j *job) runPart(ctx context.Context, p *Part) (err error) {
	for i := range p.Inputs {
		in := &p.Inputs[i]
		in.Schema = j.inputs[i].schema
		j.rowsParted += in.Rows
		if p.OneKey && p.Key == "" && in.Rows > 0 {
			p.Key, err = j.inputs[i].firstKey(in.read(ctx))
			if err != nil {
				return err
			}
		}
		readStored := in.read
		in.read = func(ctx context.Context) batches.Seq { return j.joinSmall(readStored(ctx), in.Rows) }
	}
	return j.f(ctx, p)
}

// readBuckets yields the rows of an input that are in the given buckets.
func (j *job) readBuckets(ctx context.Context, b *Buckets, input int, buckets []int) batches.Seq {
	rows := make([]batches.Seq, len(buckets))
	for i, bucket := range buckets {
		rows[i] = b.Read(ctx, input, bucket, j.inputs[input].schema)
	}
	return batches.Concat(rows...)
}

// joinSmall joins small batches. It ends with an error unless the total number of rows is count.
func (j *job) joinSmall(rows batches.Seq, count int64) batches.Seq {
	return batches.Blocks(func(yield func(arrow.RecordBatch, error) bool) {
		n := int64(0)
		for batch, err := range rows {
			if err == nil {
				n += batch.NumRows()
			}
			if !yield(batch, err) || err != nil {
				return
			}
		}
		if n != count {
			yield(nil, fmt.Errorf("temporary data: %d rows were written, but %d rows were read", count, n))
		}
	}, func() int64 { return min(j.blockBytes(), 1<<20) })
}
