package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

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

// bytesTable is bytes as a table.
func bytesTable(b []byte) arrow.Table {
	build := array.NewRecordBuilder(memory.DefaultAllocator, dataSchema)
	for part := range slices.Chunk(b, piece) {
		build.Field(0).(*array.BinaryBuilder).Append(part)
	}
	return array.NewTableFromRecords(dataSchema, []arrow.RecordBatch{build.NewRecordBatch()})
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

// storeKeep keeps results in a partd store, each under two keys, which one append makes:
// stage/KEY/info and stage/KEY/data.
type storeKeep struct{ partd.Partd }

func keysAt(key string) (info, data string) {
	return "stage/" + key + "/info", "stage/" + key + "/data"
}

func (s *storeKeep) info(ctx context.Context, key string) (*Info, error) {
	at, _ := keysAt(key)
	text, err := s.Get(ctx, at)
	if err != nil {
		return nil, err
	}
	return parseInfo(text[0], key)
}

func (s *storeKeep) load(ctx context.Context, key string) (arrow.Table, error) {
	_, at := keysAt(key)
	r, err := arrowvalue.Read(ctx, s.Partd, at, nil)
	if err != nil {
		return nil, err
	}
	return tableOf(r)
}

func (s *storeKeep) put(ctx context.Context, i *Info, t arrow.Table) error {
	text, err := json.Marshal(i)
	if err != nil {
		return err
	}
	info, data := keysAt(i.Key)
	head, err := arrowvalue.Entry(data, t.Schema())
	entries := []partd.Entry{{Key: info, Value: text}, head}
	rows := array.NewTableReader(t, batchRows)
	defer rows.Release()
	for err == nil && rows.Next() {
		var e partd.Entry
		e, err = arrowvalue.Entry(data, t.Schema(), rows.RecordBatch())
		entries = append(entries, e)
	}
	if err = errors.Join(err, rows.Err()); err == nil {
		err = s.remove(ctx, i.Key)
	}
	if err == nil {
		err = s.Append(ctx, entries...)
	}
	if err != nil {
		return err
	}
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
	info, data := keysAt(key)
	return partd.Delete(ctx, s.Partd, info, data)
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
		return x.Put(t.b.Name(), i.Key, r, tables.Replace, &tables.PutOptions{Metadata: tables.Metadata{infoName: string(text)}})
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

func (t *tableKeep) lock(ctx context.Context, key string) (func() error, error) {
	l, err := t.b.Lock(ctx, key)
	if err != nil {
		return nil, err
	}
	return l.Unlock, nil
}
