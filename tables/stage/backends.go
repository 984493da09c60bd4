package stage

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/zeebo/xxh3"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/arrowvalue"
)

const (
	rowBytes  = 1 << 20 // maximum size of a row in a table from bytesTable
	batchRows = 1 << 16 // maximum number of rows in a batch when a table is written or hashed
)

var dataSchema = arrow.NewSchema([]arrow.Field{{Name: "data", Type: arrow.BinaryTypes.Binary}}, nil)

// bytesTable returns a table that contains b, split into rows. Its batches are far below Arrow's limit of 2 GiB.
func bytesTable(b []byte) arrow.Table {
	builder := array.NewRecordBuilder(memory.DefaultAllocator, dataSchema)
	var batches []arrow.RecordBatch
	for batch := range slices.Chunk(b, 64*rowBytes) {
		for row := range slices.Chunk(batch, rowBytes) {
			builder.Field(0).(*array.BinaryBuilder).Append(row)
		}
		batches = append(batches, builder.NewRecordBatch())
	}
	return array.NewTableFromRecords(dataSchema, batches)
}

// tableBytes returns the bytes in a table from bytesTable.
func tableBytes(t arrow.Table) (b []byte, err error) {
	if t.NumCols() != 1 || t.Column(0).DataType().ID() != arrow.BINARY {
		return nil, errors.New("the stored result is damaged: it is not a table with a single binary column")
	}
	for _, chunk := range t.Column(0).Data().Chunks() {
		for row := range chunk.Len() {
			b = append(b, chunk.(*array.Binary).Value(row)...)
		}
	}
	return b, nil
}

// readTable reads all rows of r, or returns err if it is set.
func readTable(r array.RecordReader, err error) (arrow.Table, error) {
	if err != nil {
		return nil, err
	}
	defer r.Release()
	var batches []arrow.RecordBatch
	for r.Next() {
		r.RecordBatch().Retain()
		batches = append(batches, r.RecordBatch())
	}
	return array.NewTableFromRecords(r.Schema(), batches), r.Err()
}

// parseInfo decodes the info of a key. If text is empty, it returns nil.
func parseInfo(text []byte, key string) (*Info, error) {
	if len(text) == 0 {
		return nil, nil
	}
	info := &Info{}
	if err := json.Unmarshal(text, info); err != nil || info.Key != key {
		return nil, fmt.Errorf("%s is not the result of a stage, or is damaged: delete it", key)
	}
	return info, nil
}

// dirBackend stores results in a partd store in the directory. put appends the data under a new key and then sets the
// info, which contains that key. So if a process dies in between, the old result remains valid.
type dirBackend struct {
	partd.Partd
	results *Results // for the locks of keys
}

func infoKey(key string) string { return "stage/" + key + "/info" }

// errDamaged means that a result must be computed again, because its info or its data is damaged.
var errDamaged = fmt.Errorf("the stored result is damaged (%w)", fs.ErrNotExist)

// storedInfo is the value of an infoKey.
type storedInfo struct {
	*Info
	Data string // key of the data
	Sum  string // checksum of text and the data

	text []byte // JSON text of the info, with an empty Sum
}

// sum returns the checksum of s.text and the data.
func (s storedInfo) sum(data io.Reader) (string, error) {
	h := xxh3.New()
	_, err := io.Copy(h, io.MultiReader(bytes.NewReader(s.text), data))
	return fmt.Sprintf("%x", h.Sum128().Bytes()), err
}

func (s *dirBackend) get(ctx context.Context, key string) (stored storedInfo, err error) {
	values, err := s.Get(ctx, infoKey(key))
	if errors.Is(err, fs.ErrNotExist) { // the store's namespace has expired with all results in it
		return stored, nil
	}
	if err != nil {
		return stored, err
	}
	stored.Info, err = parseInfo(values[0], key)
	if stored.Info != nil && err == nil {
		err = json.Unmarshal(values[0], &stored)
	}
	if err != nil {
		return storedInfo{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	stored.text = bytes.Replace(values[0], []byte(stored.Sum), nil, 1)
	return stored, nil
}

func (s *dirBackend) info(ctx context.Context, key string) (*Info, error) {
	stored, err := s.get(ctx, key)
	return stored.Info, err
}

func (s *dirBackend) load(ctx context.Context, key string) (arrow.Table, error) {
	stored, err := s.get(ctx, key)
	if err == nil && stored.Info == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	// Read the data twice, concurrently: computing the checksum would slow down a single read.
	verifyErr := make(chan error, 1)
	go func() { verifyErr <- s.verify(ctx, stored) }()
	t, err := readTable(arrowvalue.Read(ctx, s.Partd, stored.Data))
	if err := <-verifyErr; err != nil {
		return nil, err
	}
	return t, err
}

// verify returns an error that wraps errDamaged if the data cannot be read or its checksum differs.
func (s *dirBackend) verify(ctx context.Context, stored storedInfo) error {
	data, err := partd.Open(ctx, s.Partd, stored.Data)
	sum := ""
	if err == nil {
		sum, err = stored.sum(data)
		err = errors.Join(err, data.Close())
	}
	switch {
	case ctx.Err() != nil:
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", errDamaged, err)
	case sum != stored.Sum:
		return fmt.Errorf("%w: the checksum differs", errDamaged)
	}
	return nil
}

func (s *dirBackend) put(ctx context.Context, info *Info, t arrow.Table) error {
	old, err := s.get(ctx, info.Key)
	if err != nil && !errors.Is(err, errDamaged) {
		return err
	}
	dataKey := fmt.Sprintf("stage/%s/data/%s", info.Key, rand.Text())
	schemaEntry, err := arrowvalue.Entry(dataKey, t.Schema())
	entries := []partd.Entry{schemaEntry}
	rows := array.NewTableReader(t, batchRows)
	defer rows.Release()
	for err == nil && rows.Next() {
		var e partd.Entry
		e, err = arrowvalue.Entry(dataKey, t.Schema(), rows.RecordBatch())
		entries = append(entries, e)
	}
	stored := storedInfo{Info: info, Data: dataKey}
	err = errors.Join(err, rows.Err())
	if err == nil {
		stored.text, err = json.Marshal(stored)
	}
	if err == nil {
		values := make([]io.Reader, len(entries))
		for i, e := range entries {
			values[i] = bytes.NewReader(e.Value)
		}
		stored.Sum, err = stored.sum(io.MultiReader(values...))
	}
	if err == nil {
		err = s.Append(ctx, entries...)
	}
	if err == nil { // Sync the data first, so that the info never becomes durable before the data.
		err = partd.Sync(ctx, s.Partd)
	}
	var text []byte
	if err == nil {
		text, err = json.Marshal(stored)
	}
	if err == nil {
		err = partd.Set(ctx, s.Partd, infoKey(info.Key), text)
	}
	if err == nil && old.Data != "" {
		err = partd.Delete(ctx, s.Partd, old.Data)
	}
	if err != nil {
		return err
	}
	return partd.Sync(ctx, s.Partd)
}

func (s *dirBackend) list(ctx context.Context) (infos []*Info, err error) {
	for k, err := range partd.Keys(ctx, s.Partd) {
		if err != nil {
			return nil, err
		}
		key, isStage := strings.CutPrefix(k.Key, "stage/")
		key, isInfo := strings.CutSuffix(key, "/info")
		if !isStage || !isInfo {
			continue
		}
		info, err := s.info(ctx, key)
		if err != nil && !errors.Is(err, errDamaged) {
			return nil, err
		}
		if info != nil { // nil if the result is damaged, or another process has just removed it
			infos = append(infos, info)
		}
	}
	return infos, nil
}

func (s *dirBackend) remove(ctx context.Context, key string) error {
	stored, err := s.get(ctx, key)
	if stored.Info == nil || err != nil {
		return err
	}
	return partd.Delete(ctx, s.Partd, infoKey(key), stored.Data)
}

func (s *dirBackend) sweep(ctx context.Context) error {
	resultKeys := map[string]string{} // keys of results, by the keys of their data
	for k, err := range partd.Keys(ctx, s.Partd) {
		if err != nil {
			return err
		}
		rest, isStage := strings.CutPrefix(k.Key, "stage/")
		if key, _, isData := strings.Cut(rest, "/data/"); isStage && isData {
			resultKeys[k.Key] = key
		}
	}
	for dataKey, key := range resultKeys {
		isUnreferenced := func() (bool, error) {
			stored, err := s.get(ctx, key)
			if err != nil && !errors.Is(err, errDamaged) {
				return false, err
			}
			return stored.Data != dataKey, nil
		}
		unreferenced, err := isUnreferenced() // first without the lock, because most data is referenced
		if err == nil && unreferenced {
			// A writer of the data holds the lock until it has set the info.
			err = s.results.ifUnlocked(ctx, key, func() error {
				if unreferenced, err := isUnreferenced(); err != nil || !unreferenced {
					return err
				}
				return partd.Delete(ctx, s.Partd, dataKey)
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lock does nothing, because the lock in the directory excludes all processes that use this store.
func (s *dirBackend) lock(context.Context, string) (func() error, error) {
	return func() error { return nil }, nil
}

// tableBackend stores each result as a table in a bucket. The table is named by the result's key, and its
// metadata contains the info.
type tableBackend struct {
	store  *tables.Store
	bucket *tables.Bucket
}

const infoName = "partd.stage" // name of the info in a table's metadata

// infoOf returns the info in a table's metadata, or nil if the table is not a result.
func infoOf(t tables.TableInfo) (*Info, error) {
	text, _ := t.Metadata[infoName].(string)
	return parseInfo([]byte(text), t.Name)
}

func (t *tableBackend) info(ctx context.Context, key string) (*Info, error) {
	info, err := t.bucket.Table(key).Info(ctx)
	if errors.Is(err, tables.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return infoOf(info)
}

func (t *tableBackend) load(ctx context.Context, key string) (arrow.Table, error) {
	return readTable(t.bucket.Table(key).Scan(ctx, nil))
}

// put commits the table at once, without the store's tail (its log of recent rows).
func (t *tableBackend) put(ctx context.Context, info *Info, rows arrow.Table) error {
	text, err := json.Marshal(info)
	if err != nil {
		return err
	}
	r := array.NewTableReader(rows, batchRows)
	defer r.Release()
	return t.store.Update(ctx, func(x *tables.Txn) error {
		return x.Put(t.bucket.Name(), info.Key, r, tables.PutReplace, &tables.PutOptions{Metadata: tables.Metadata{infoName: string(text)}})
	})
}

func (t *tableBackend) list(ctx context.Context) (infos []*Info, err error) {
	for table, err := range t.bucket.Tables(ctx, nil) {
		if err != nil {
			return nil, err
		}
		info, err := infoOf(table)
		if err != nil {
			return nil, err
		}
		if info != nil { // the bucket may contain tables that are not results
			infos = append(infos, info)
		}
	}
	return infos, nil
}

func (t *tableBackend) remove(ctx context.Context, key string) error {
	if err := t.bucket.Delete(ctx, key); !errors.Is(err, tables.ErrNotFound) {
		return err
	}
	return nil
}

// sweep does nothing, because the store's Expire removes unreferenced files.
func (t *tableBackend) sweep(context.Context) error { return nil }

func (t *tableBackend) lock(ctx context.Context, key string) (func() error, error) {
	l, err := t.bucket.Table(key).Lock(ctx)
	if err != nil {
		return nil, err
	}
	return l.Unlock, nil
}
