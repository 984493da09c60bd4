package stage

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/arrowvalue"
)

const (
	piece     = 1 << 20 // bytes, in a row of a table of bytes
	batchRows = 1 << 16
)

var dataSchema = arrow.NewSchema([]arrow.Field{{Name: "data", Type: arrow.BinaryTypes.Binary}}, nil)

// bytesTable is bytes as a table, in batches far from the 2 GiB that one may have.
func bytesTable(b []byte) arrow.Table {
	build := array.NewRecordBuilder(memory.DefaultAllocator, dataSchema)
	var batches []arrow.RecordBatch
	for batch := range slices.Chunk(b, 64*piece) {
		for part := range slices.Chunk(batch, piece) {
			build.Field(0).(*array.BinaryBuilder).Append(part)
		}
		batches = append(batches, build.NewRecordBatch())
	}
	return array.NewTableFromRecords(dataSchema, batches)
}

func bytesOf(t arrow.Table) (b []byte, err error) {
	if t.NumCols() != 1 || t.Column(0).DataType().ID() != arrow.BINARY {
		return nil, errors.New("what is kept is damaged: it is no table of bytes")
	}
	for _, chunk := range t.Column(0).Data().Chunks() {
		for row := range chunk.Len() {
			b = append(b, chunk.(*array.Binary).Value(row)...)
		}
	}
	return b, nil
}

func tableOf(r array.RecordReader) (arrow.Table, error) {
	defer r.Release()
	var batches []arrow.RecordBatch
	for r.Next() {
		r.RecordBatch().Retain()
		batches = append(batches, r.RecordBatch())
	}
	return array.NewTableFromRecords(r.Schema(), batches), r.Err()
}

// parseInfo returns nil for an empty text.
func parseInfo(text []byte, key string) (*Info, error) {
	if len(text) == 0 {
		return nil, nil
	}
	i := &Info{}
	if err := json.Unmarshal(text, i); err != nil || i.Key != key {
		return nil, fmt.Errorf("what is kept under %s is no result of a stage, or damaged: delete it", key)
	}
	return i, nil
}

// storeKeep keeps results in a partd store: each under a key of its own, made by one append,
// and then its info, which names that key, by one set. So those who put the same key at a
// time do not mix theirs.
type storeKeep struct{ partd.Partd }

func infoAt(key string) string { return "stage/" + key + "/info" }

// get returns the info of what is kept, and the key of its data.
func (s *storeKeep) get(ctx context.Context, key string) (*Info, string, error) {
	text, err := s.Get(ctx, infoAt(key))
	if err != nil {
		return nil, "", err
	}
	i, err := parseInfo(text[0], key)
	if i == nil || err != nil {
		return nil, "", err
	}
	var at struct{ Data string }
	return i, at.Data, json.Unmarshal(text[0], &at)
}

func (s *storeKeep) info(ctx context.Context, key string) (*Info, error) {
	i, _, err := s.get(ctx, key)
	return i, err
}

func (s *storeKeep) load(ctx context.Context, key string) (arrow.Table, error) {
	i, data, err := s.get(ctx, key)
	if i == nil && err == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	r, err := arrowvalue.Read(ctx, s.Partd, data, nil)
	if err != nil {
		return nil, err
	}
	return tableOf(r)
}

func (s *storeKeep) put(ctx context.Context, i *Info, t arrow.Table) error {
	_, was, err := s.get(ctx, i.Key)
	if err != nil {
		return err
	}
	data := fmt.Sprintf("stage/%s/data/%d.%s", i.Key, i.Made.Unix(), rand.Text())
	text, err := json.Marshal(struct {
		*Info
		Data string
	}{i, data})
	if err != nil {
		return err
	}
	head, err := arrowvalue.Entry(data, t.Schema())
	entries := []partd.Entry{head}
	rows := array.NewTableReader(t, batchRows)
	defer rows.Release()
	for err == nil && rows.Next() {
		var e partd.Entry
		e, err = arrowvalue.Entry(data, t.Schema(), rows.RecordBatch())
		entries = append(entries, e)
	}
	if err = errors.Join(err, rows.Err()); err == nil {
		err = s.Append(ctx, entries...)
	}
	if err == nil { // the data first, whatever order the store writes in
		err = s.sync(ctx)
	}
	if err == nil {
		err = partd.Set(ctx, s.Partd, infoAt(i.Key), text)
	}
	if err == nil && was != "" {
		err = partd.Delete(ctx, s.Partd, was)
	}
	if err != nil {
		return err
	}
	return s.sync(ctx)
}

func (s *storeKeep) sync(ctx context.Context) error {
	if err := partd.Sync(ctx, s.Partd); !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

func (s *storeKeep) list(ctx context.Context) (all []*Info, err error) {
	for k, err := range partd.Keys(ctx, s.Partd) {
		if err != nil {
			return nil, err
		}
		key, ours := strings.CutPrefix(k.Key, "stage/")
		key, info := strings.CutSuffix(key, "/info")
		if !ours || !info {
			continue
		}
		i, err := s.info(ctx, key)
		if err != nil {
			return nil, err
		}
		if i != nil { // it may have been removed meanwhile
			all = append(all, i)
		}
	}
	return all, nil
}

func (s *storeKeep) remove(ctx context.Context, key string) error {
	i, data, err := s.get(ctx, key)
	if i == nil || err != nil {
		return err
	}
	return partd.Delete(ctx, s.Partd, infoAt(key), data)
}

func (s *storeKeep) sweep(ctx context.Context, before time.Time) error {
	var left []string
	for k, err := range partd.Keys(ctx, s.Partd) {
		if err != nil {
			return err
		}
		rest, ours := strings.CutPrefix(k.Key, "stage/")
		key, made, isData := strings.Cut(rest, "/data/")
		seconds, _, _ := strings.Cut(made, ".")
		if at, err := strconv.ParseInt(seconds, 10, 64); !ours || !isData || err != nil || !time.Unix(at, 0).Before(before) {
			continue
		}
		if _, data, err := s.get(ctx, key); err != nil {
			return err
		} else if data != k.Key {
			left = append(left, k.Key)
		}
	}
	if len(left) == 0 {
		return nil
	}
	return partd.Delete(ctx, s.Partd, left...)
}

// lock does nothing: those who do not share the directory are not excluded.
func (s *storeKeep) lock(context.Context, string) (func() error, error) {
	return func() error { return nil }, nil
}

// tableKeep keeps results in a bucket: each in the table of its key, with the info in its
// metadata.
type tableKeep struct {
	s *tables.Store
	b *tables.Bucket
}

const infoName = "partd.stage"

func infoOf(t tables.TableInfo) (*Info, error) {
	text, _ := t.Metadata[infoName].(string)
	return parseInfo([]byte(text), t.Name)
}

func (t *tableKeep) info(ctx context.Context, key string) (*Info, error) {
	var info tables.TableInfo
	table, err := t.b.Table(ctx, key)
	if err == nil {
		info, err = table.Info(ctx)
	}
	if errors.Is(err, tables.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return infoOf(info)
}

func (t *tableKeep) load(ctx context.Context, key string) (arrow.Table, error) {
	table, err := t.b.Table(ctx, key)
	if err != nil {
		return nil, err
	}
	r, err := table.Scan(ctx, nil)
	if err != nil {
		return nil, err
	}
	return tableOf(r)
}

// put makes a commit, whatever the store's tail is.
func (t *tableKeep) put(ctx context.Context, i *Info, rows arrow.Table) error {
	text, err := json.Marshal(i)
	if err != nil {
		return err
	}
	r := array.NewTableReader(rows, batchRows)
	defer r.Release()
	return t.s.Update(ctx, func(x *tables.Txn) error {
		return x.Put(t.b.Name(), i.Key, r, tables.PutReplace, &tables.PutOptions{Metadata: tables.Metadata{infoName: string(text)}})
	})
}

func (t *tableKeep) list(ctx context.Context) (all []*Info, err error) {
	for table, err := range t.b.Tables(ctx, nil) {
		if err != nil {
			return nil, err
		}
		i, err := infoOf(table)
		if err != nil {
			return nil, err
		}
		if i != nil { // others are not ours
			all = append(all, i)
		}
	}
	return all, nil
}

func (t *tableKeep) remove(ctx context.Context, key string) error {
	if err := t.b.Delete(ctx, key); !errors.Is(err, tables.ErrNotFound) {
		return err
	}
	return nil
}

// sweep does nothing: the store's Expire removes what no table has.
func (t *tableKeep) sweep(context.Context, time.Time) error { return nil }

func (t *tableKeep) lock(ctx context.Context, key string) (func() error, error) {
	l, err := t.b.Lock(ctx, key)
	if err != nil {
		return nil, err
	}
	return l.Unlock, nil
}
