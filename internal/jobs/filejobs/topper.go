package filejobs

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"

	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/jobs/records"
)

// topPerEngine runs [TopPer]. It sorts the records by group, and by the sort fields within each
// group. Before the sort, each worker drops a record if it has seen n records from the same group
// that sort before it.
type topPerEngine struct {
	topEngine
	per     string
	job     *Job
	groups  []records.Field
	seen    []*seenKeys // one for each worker
	batches []*topBatch // one for each worker
}

// perBatch is the maximum number of records in a topBatch.
const perBatch = 256

// topBatch collects records with their sort keys. Looking up their groups together is faster.
type topBatch struct {
	groups, orders, records [][]byte
	buf                     []byte // memory for groups and orders
	keyBuf                  []byte
	worker                  int
	err                     error
}

// TopPer returns an engine that groups records by the fields listed in per. From each group, it
// writes the n records with the largest values of the fields listed in by.
func TopPer(by, per string, n int) Engine {
	return &topPerEngine{topEngine: topEngine{FirstSorter: FirstSorter{n: n}, sorting: sortEngine{by: by, descending: true}}, per: per}
}

func (t *topPerEngine) Plan(j *Job) (err error) {
	t.job = j
	t.groups, err = j.ResolveFields("per", t.per)
	if err != nil {
		return err
	}
	t.sorting.firstField = len(t.groups)
	return t.sorting.Plan(j)
}

func (t *topPerEngine) Run(ctx context.Context, j *Job) (err error) {
	memory := j.engineMemory()
	t.sorter, err = j.NewSorter(ctx, memory/2, true)
	if err != nil {
		return err
	}
	t.seen, err = j.newSeenKeys(ctx, memory/3, t.n)
	if err != nil {
		return err
	}
	for i := range j.Threads {
		t.batches = append(t.batches, &topBatch{worker: i})
	}
	if err := j.Read(ctx, append(slices.Clone(t.groups), t.sorting.fields...), t.addBlock); err != nil {
		return err
	}
	j.Notes = t.sorting.notes()
	j.Bar.Wait("writing the top records", nil)
	groups, err := t.write(j)
	if err != nil {
		return err
	}
	for _, s := range t.seen {
		t.dropped += s.droppedRecords
	}
	j.Report("groups", "groups", groups)
	j.Report("written", "written", t.written)
	return t.verify(j, j.Tally.Records, "records")
}

// addBlock passes the records in a block that may be among the first n of their groups to the
// sorter.
func (t *topPerEngine) addBlock(b *records.Block) (err error) {
	w, err := t.sorter.Batch(uint64(b.Seq))
	if err != nil {
		return err
	}
	defer func() { err = JoinErrors(err, w.Close()) }()
	batch := t.batches[b.Worker]
	for b.Next() {
		order := sortRecord{buf: batch.buf[len(batch.buf):]}
		include, err := t.sorting.setSortKey(b, &order)
		if err != nil {
			return err
		}
		if !include {
			continue
		}
		if n := len(order.buf); n <= cap(batch.buf)-len(batch.buf) {
			batch.buf = batch.buf[:len(batch.buf)+n] // order.buf is at the end of batch.buf: keep it
		} else {
			batch.buf = make([]byte, 0, 2*cap(batch.buf)+n)
		}
		var group []byte
		group, batch.buf = t.job.KeyBy(batch.buf, b.Fields[:len(t.groups)], b.Unquoted)
		batch.groups, batch.orders, batch.records = append(batch.groups, group), append(batch.orders, order.key), append(batch.records, b.Record)
		if len(batch.groups) == perBatch || len(b.Record) > longRecord {
			if err := t.sortBatch(batch, w); err != nil {
				return ReportTooLong(b, err)
			}
		}
	}
	return t.sortBatch(batch, w)
}

// A record with more than longRecord bytes ends its batch. If the sorter rejects such a record as
// too long, it is still the block's current record, so the error names its line.
const longRecord = 1 << 10

func (t *topPerEngine) sortBatch(batch *topBatch, w *extsort.Writer) error {
	seen := t.seen[batch.worker]
	err := seen.lookup(batch.groups, func(i int, first []uint64, isNew bool) {
		order := batch.orders[i]
		switch {
		case batch.err != nil:
		case first != nil && !addIfFirst(first, isNew, order):
			seen.knownRecords++
			seen.droppedRecords++
		default:
			batch.keyBuf = append(extsort.AppendText(batch.keyBuf[:0], batch.groups[i]), order...)
			batch.err = w.Add(batch.keyBuf, batch.records[i])
		}
	})
	batch.groups, batch.orders, batch.records, batch.buf = batch.groups[:0], batch.orders[:0], batch.records[:0], batch.buf[:0]
	return JoinErrors(batch.err, err)
}

// addIfFirst adds a key to first and reports whether the key may be among the first keys of its
// group. first holds the smallest keys of the group so far as sorted words. A word holds only
// the beginning of a long key. If words are equal, addIfFirst rejects the later key only if the words hold
// complete keys.
func addIfFirst(first []uint64, isNew bool, key []byte) bool {
	const noKey, longLen = ^uint64(0), 8
	if isNew {
		for i := range first {
			first[i] = noKey
		}
	}
	// A word holds the first seven bytes of a key, then the key's length, or longLen if the key
	// is longer.
	var word [8]byte
	copy(word[:7], key)
	word[7] = byte(min(len(key), longLen))
	w := binary.BigEndian.Uint64(word[:])
	last := len(first) - 1
	if w > first[last] || w == first[last] && word[7] < longLen {
		return false
	}
	i, _ := slices.BinarySearch(first, w)
	copy(first[i+1:], first[i:])
	first[i] = w
	return true
}

func (t *topPerEngine) write(j *Job) (groups int64, err error) {
	c, err := newConverter(j, j.sink)
	if err != nil {
		return 0, err
	}
	var group []byte
	n := 0 // number of records in the group so far
	for b, err := range t.sorter.Sorted() {
		if err != nil {
			return 0, err
		}
		for i := range b.Len() {
			if key := b.Key(i); groups == 0 || !bytes.HasPrefix(key, group) {
				group = append(group[:0], key[:extsort.TextLen(key)]...)
				groups, n = groups+1, 0
			}
			n++
			if n > t.n {
				t.dropped++
				continue
			}
			t.written++
			if err := c.write(j.sink, b.Record(i)); err != nil {
				return 0, err
			}
		}
	}
	return groups, nil
}
