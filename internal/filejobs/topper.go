package filejobs

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"

	"github.com/go-partd/partd/internal/extsort"
	"github.com/go-partd/partd/internal/records"
)

// topPerEngine is one run of [TopPer]. Records are sorted by their group, then by
// their order in it; before that, each worker leaves out what is not among the first
// n of a group that it has seen itself, as far as its memory goes.
type topPerEngine struct {
	topEngine
	per    string
	job    *job
	groups []records.Field
	seen   []*seenKeys // of each worker
	some   []*topBatch // of each worker
}

// topBatch is some records of a block, and what they are sorted by: their groups are
// looked up together.
type topBatch struct {
	groups, orders, records [][]byte
	buf                     []byte // what groups and orders may be in
	key                     []byte
	worker                  int
	err                     error
}

// maxFiltered is for how many of a group the workers know the first.
const maxFiltered = 64

// TopPer returns what writes, of each group of records that are the same in the fields
// of per, the n with the greatest values of the fields of by.
func TopPer(by, per string, n int) Engine {
	return &topPerEngine{topEngine: topEngine{n: n, sorting: sortEngine{by: by, down: true}}, per: per}
}

func (t *topPerEngine) plan(j *job) (err error) {
	t.job = j
	if t.groups, err = j.fields("per", t.per); err != nil {
		return err
	}
	t.sorting.from = len(t.groups)
	return t.sorting.plan(j)
}

func (t *topPerEngine) run(ctx context.Context, j *job) (err error) {
	memory := j.engineMemory()
	if t.sorter, err = j.newSorter(ctx, memory/2, true); err != nil {
		return err
	}
	t.seen = j.newSeen(ctx, seenKeys{memory: memory / 3, words: t.n, off: t.n > maxFiltered})
	for i := range j.Threads {
		t.some = append(t.some, &topBatch{worker: i})
	}
	if err := j.read(ctx, append(slices.Clone(t.groups), t.sorting.fields...), t.use); err != nil {
		return err
	}
	j.Notes = t.sorting.notes()
	j.Bar.Wait("writing the first of each", nil)
	groups, err := t.write(j)
	if err != nil {
		return err
	}
	for _, s := range t.seen {
		t.dropped += s.dropped
	}
	j.report("groups", "groups", groups)
	j.report("written", "written", t.written)
	return t.prove(j, j.Tally.Records, "records")
}

// use sorts the records of a block that may be among the first of their groups.
func (t *topPerEngine) use(b *records.Block) (err error) {
	w, err := t.sorter.Batch(uint64(b.Seq))
	if err != nil {
		return err
	}
	defer func() { err = joinErrors(err, w.Close()) }()
	some := t.some[b.Worker]
	for b.Next() {
		order := sortRecord{buf: some.buf[len(some.buf):]}
		sorts, err := t.sorting.place(b, &order)
		if err != nil {
			return err
		}
		if !sorts {
			continue
		}
		if n := len(order.buf); n <= cap(some.buf)-len(some.buf) {
			some.buf = some.buf[:len(some.buf)+n] // it is there
		} else {
			some.buf = make([]byte, 0, 2*cap(some.buf)+n)
		}
		var group []byte
		group, some.buf = t.job.keyBy(some.buf, b.Fields[:len(t.groups)], b.Bare)
		some.groups, some.orders, some.records = append(some.groups, group), append(some.orders, order.key), append(some.records, b.Record)
		if len(some.groups) == groupBatch || len(b.Record) > longRecord {
			if err := t.sortBatch(some, w); err != nil {
				return tooLong(b, err)
			}
		}
	}
	return t.sortBatch(some, w)
}

// longRecord is a record that may be too long: it ends its batch, so that an error is about it.
const longRecord = 1 << 10

// sortBatch sorts the records of a batch that may be among the first of their groups.
func (t *topPerEngine) sortBatch(some *topBatch, w *extsort.Writer) error {
	seen := t.seen[some.worker]
	err := seen.states(some.groups, func(i int, first []uint64, isNew bool) {
		order := some.orders[i]
		switch {
		case some.err != nil:
		case first != nil && !amongFirst(first, isNew, order):
			seen.known++
			seen.dropped++
		default:
			some.key = append(extsort.AppendText(some.key[:0], some.groups[i]), order...)
			some.err = w.Add(some.key, some.records[i])
		}
	})
	some.groups, some.orders, some.records, some.buf = some.groups[:0], some.orders[:0], some.records[:0], some.buf[:0]
	return joinErrors(some.err, err)
}

// amongFirst reports whether a key may be among the first of a group, of which first
// has the words, the least in front, and adds it to them. Of equal keys those that
// were added first are, if their words are all of them.
func amongFirst(first []uint64, isNew bool, key []byte) bool {
	const none, more = ^uint64(0), 8
	if isNew {
		for i := range first {
			first[i] = none
		}
	}
	// Seven bytes, and how many there are.
	var word [8]byte
	copy(word[:7], key)
	word[7] = byte(min(len(key), more))
	w := binary.BigEndian.Uint64(word[:])
	last := len(first) - 1
	if w > first[last] || w == first[last] && word[7] < more {
		return false
	}
	i, _ := slices.BinarySearch(first, w)
	copy(first[i+1:], first[i:])
	first[i] = w
	return true
}

func (t *topPerEngine) write(j *job) (groups int64, err error) {
	c, err := newConverter(j, j.sink)
	if err != nil {
		return 0, err
	}
	var group []byte
	n := 0 // of the group
	for b, err := range t.sorter.Sorted() {
		if err != nil {
			return 0, err
		}
		for i := range b.Len() {
			if key := b.Key(i); groups == 0 || !bytes.HasPrefix(key, group) {
				group = append(group[:0], key[:extsort.TextLen(key)]...)
				groups, n = groups+1, 0
			}
			if n++; n > t.n {
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
