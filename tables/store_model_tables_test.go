package tables_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/take"
)

// tick is a row of a test table with a time column.
type tick struct {
	ts int64 // in seconds
	k  string
	v  int64
	w  int64 // value of a column that tests add and drop; 0 means null
}

func (r tick) String() string {
	if r.w == 0 {
		return fmt.Sprintf("{%d %s %d}", r.ts, r.k, r.v)
	}
	return fmt.Sprintf("{%d %s %d %d}", r.ts, r.k, r.v, r.w)
}

var tickSchema = arrow.NewSchema([]arrow.Field{
	{Name: "v", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}, Nullable: true},
	{Name: "k", Type: arrow.BinaryTypes.String, Nullable: true},
}, nil)

// ticksOf returns a reader of rows in batches of at most the given length.
func ticksOf(rows []tick, batchRows int) array.RecordReader {
	b := array.NewRecordBuilder(memory.DefaultAllocator, tickSchema)
	defer b.Release()
	batches := []arrow.RecordBatch{}
	for part := range slices.Chunk(rows, batchRows) {
		for _, r := range part {
			b.Field(0).(*array.Int64Builder).Append(r.v)
			b.Field(1).(*array.TimestampBuilder).Append(arrow.Timestamp(1000 * r.ts))
			b.Field(2).(*array.StringBuilder).Append(r.k)
		}
		batches = append(batches, b.NewRecordBatch())
	}
	r, err := array.NewRecordReader(tickSchema, batches)
	if err != nil {
		panic(err)
	}
	take.Release(batches)
	return r
}

// ticksFrom returns the ticks of a reader; missing columns are zero.
func ticksFrom(r array.RecordReader, err error) ([]tick, error) {
	if err != nil {
		return nil, err
	}
	defer r.Release()
	rows := []tick{}
	for r.Next() {
		b := r.RecordBatch()
		for i := range int(b.NumRows()) {
			var t tick
			for column, c := range b.Columns() {
				switch b.ColumnName(column) {
				case "v":
					t.v = c.(*array.Int64).Value(i)
				case "ts":
					t.ts = int64(c.(*array.Timestamp).Value(i)) / 1000
				case "w":
					if c.IsValid(i) {
						w, err := strconv.ParseFloat(c.ValueStr(i), 64)
						if err != nil {
							return nil, err
						}
						t.w = int64(w)
					}
				case "k", "key":
					t.k = c.(*array.String).Value(i)
				}
			}
			rows = append(rows, t)
		}
	}
	return rows, r.Err()
}

// modelTable is the expected content of a table, in the order of arrival.
type modelTable struct {
	exists         bool
	settings       tables.Settings
	rows           []tick
	versions       map[tables.Version][]tick // rows as read at each version
	renamed        bool                      // whether column k was renamed to key
	wType          string                    // the type of column w; "" if there is no such column
	schemaVersion  int                       // the schema version of the last migration
	ids            map[string]bool           // IDs of the puts that were applied
	meta           tables.Metadata
	incarnation    int64          // distinguishes tables that had the same name
	evolvedVersion tables.Version // the table's last version before its columns changed
}

func (s *modelTable) key() string {
	if s.renamed {
		return "key"
	}
	return "k"
}

// newTable returns a table that does not exist yet.
func (m *model) newTable() *modelTable {
	m.next++
	return &modelTable{settings: m.randomSettings(), versions: map[tables.Version][]tick{}, ids: map[string]bool{}, incarnation: m.next}
}

// applied records the result of a put with the options o.
func (s *modelTable) applied(o *tables.PutOptions, rows []tick, recordsID, setsMetadata bool) {
	s.exists, s.rows = true, rows
	if o.ID != "" && recordsID {
		s.ids[o.ID] = true
	}
	if setsMetadata {
		s.meta = o.Metadata
	}
}

func (s *modelTable) clone() *modelTable {
	c := *s
	c.rows, c.versions, c.ids = slices.Clone(s.rows), maps.Clone(s.versions), maps.Clone(s.ids)
	return &c
}

// reader returns a reader of rows in the table's columns, and the rows as the table will store them.
func (s *modelTable) reader(rows []tick, batchRows int) (array.RecordReader, []tick) {
	rows = slices.Clone(rows)
	for i := range rows {
		if rows[i].w = 0; s.wType != "" {
			rows[i].w = rows[i].v + 1
		}
	}
	plain := ticksOf(rows, batchRows)
	defer plain.Release()
	fields := slices.Clone(tickSchema.Fields())
	fields[2].Name = s.key()
	if s.wType != "" {
		fields = append(fields, arrow.Field{Name: "w", Type: arrow.PrimitiveTypes.Int32, Nullable: true})
		if s.wType == "float64" {
			fields[3].Type = arrow.PrimitiveTypes.Float64
		}
	}
	schema := arrow.NewSchema(fields, nil)
	var batches []arrow.RecordBatch
	for plain.Next() {
		b := plain.RecordBatch()
		columns := slices.Clone(b.Columns())
		if s.wType != "" {
			w := array.NewBuilder(memory.DefaultAllocator, fields[3].Type)
			for _, v := range b.Column(0).(*array.Int64).Int64Values() {
				if err := w.AppendValueFromString(fmt.Sprint(v + 1)); err != nil {
					panic(err)
				}
			}
			columns = append(columns, w.NewArray())
		}
		batches = append(batches, array.NewRecordBatch(schema, columns, b.NumRows()))
	}
	r, err := array.NewRecordReader(schema, batches)
	if err != nil {
		panic(err)
	}
	return r, rows
}

// compare compares the times and keys of rows. Without a time column, it compares the keys that upsert uses.
func (s *modelTable) compare(a, b tick) int {
	if s.settings.Time != "" && len(s.settings.Keys) == 0 {
		return cmp.Compare(a.ts, b.ts)
	}
	return cmp.Or(cmp.Compare(a.ts, b.ts), cmp.Compare(a.k, b.k))
}

// put returns the rows after a put, and whether the put is rejected.
func (s *modelTable) put(before, rows []tick) (after []tick, rejected bool) {
	after = slices.Clone(before)
	for _, r := range rows {
		index := slices.IndexFunc(after, func(o tick) bool { return s.compare(o, r) == 0 })
		switch {
		case index < 0 || s.settings.OnDuplicate == tables.KeepAll || s.settings.OnDuplicate == "":
			after = append(after, r)
		case s.settings.OnDuplicate == tables.RefuseDuplicate:
			return before, true
		case s.settings.OnDuplicate == tables.KeepLast:
			after = append(slices.Delete(after, index, index+1), r)
		}
	}
	return after, false
}

func (s *modelTable) read() []tick {
	rows := append([]tick{}, s.rows...)
	if s.settings.Time == "" {
		return s.inOrder(rows)
	}
	slices.SortStableFunc(rows, s.compare)
	return rows
}

// inOrder sorts rows that were read from a table without a time column, whose order is not specified, by column v.
func (s *modelTable) inOrder(rows []tick) []tick {
	if s.settings.Time == "" {
		slices.SortFunc(rows, func(a, b tick) int { return cmp.Compare(a.v, b.v) })
	}
	return rows
}

func (m *model) put(ctx context.Context, name tables.TableName) error {
	s, exists := m.tables[name], m.exists(name)
	span := int64(300)
	if s.settings.OnDuplicate == tables.RefuseDuplicate { // a short span would make almost every put fail
		span = 30000
	}
	if !exists {
		s.renamed, s.wType, s.schemaVersion, s.evolvedVersion = false, "", 0, 0
	}
	r, rows := s.reader(m.ticks(span), 1+m.rnd.IntN(100))
	mode, o := tables.PutAppend, m.putOptions(s)
	if m.rnd.IntN(8) == 0 {
		mode = tables.PutError
	}
	after, rejected := s.put(s.rows, rows)
	_, err := m.table(name).Put(ctx, r, mode, o)
	var duplicates *tables.DuplicateError
	switch {
	case s.ids[o.ID]: // a put with a repeated ID changes nothing
		return err
	case exists && mode == tables.PutError:
		return expect(err, true, tables.ErrExists)
	case rejected != errors.As(err, &duplicates):
		return fmt.Errorf("got error %w, want a DuplicateError: %v", err, rejected)
	case !rejected && err != nil:
		return err
	case rejected:
		return nil
	}
	s.applied(o, after, len(rows) > 0 || mode == tables.PutError, !exists)
	return nil
}

// putOptions returns options with a table's settings, and sometimes with a new or used ID and with metadata.
func (m *model) putOptions(s *modelTable) *tables.PutOptions {
	o := &tables.PutOptions{Settings: &s.settings}
	if m.rnd.IntN(3) == 0 {
		if o.ID = fmt.Sprint("id", m.next, m.rnd.Int()); len(m.usedIDs) > 0 && m.rnd.IntN(2) == 0 {
			o.ID = m.usedIDs[m.rnd.IntN(len(m.usedIDs))]
		}
		m.usedIDs = append(m.usedIDs, o.ID)
	}
	if m.rnd.IntN(3) == 0 {
		o.Metadata = tables.Metadata{"k": fmt.Sprint(m.next)}
	}
	return o
}

func expect(err error, fails bool, want error) error {
	if !fails {
		return err
	}
	if !errors.Is(err, want) {
		return fmt.Errorf("got error %w, want %v", err, want)
	}
	return nil
}

// randomSettings returns settings, a fifth of them without a time column.
func (m *model) randomSettings() tables.Settings {
	evolution := []tables.Evolution{"", tables.Flexible}[m.rnd.IntN(2)]
	if m.rnd.IntN(5) == 0 {
		return tables.Settings{Evolution: evolution}
	}
	s := tables.Settings{Time: "ts", OnDuplicate: []tables.OnDuplicate{tables.KeepAll, tables.KeepFirst, tables.KeepLast, tables.RefuseDuplicate, ""}[m.rnd.IntN(5)], Evolution: evolution}
	if m.rnd.IntN(2) == 0 {
		s.Keys = []string{"k"}
	}
	return s
}

func (m *model) replace(ctx context.Context, name tables.TableName) error {
	old := m.tables[name]
	s := &modelTable{settings: m.randomSettings(), versions: old.versions, ids: old.ids, schemaVersion: old.schemaVersion, incarnation: old.incarnation}
	rows, o := m.ticks(30000), m.putOptions(s)
	after, rejected := s.put(nil, rows)
	_, err := m.table(name).Put(ctx, ticksOf(rows, 50), tables.PutReplace, o)
	switch {
	case s.ids[o.ID]:
		return err
	case rejected:
		return expectDuplicate(err)
	case err == nil:
		s.applied(o, after, true, true)
		m.tables[name] = s
	}
	return err
}

func expectDuplicate(err error) error {
	if !errors.As(err, new(*tables.DuplicateError)) {
		return fmt.Errorf("got error %w, want a DuplicateError", err)
	}
	return nil
}

// update changes several tables in one commit, or fails and changes none.
func (m *model) update(ctx context.Context, _ tables.TableName) error {
	fails, rejected, errFail := m.rnd.IntN(4) == 0, false, errors.New("fail")
	after, exists := map[tables.TableName]*modelTable{}, map[tables.TableName]bool{}
	for name, s := range m.tables {
		after[name], exists[name] = s.clone(), m.exists(name)
	}
	err := m.s.Update(ctx, func(x *tables.Txn) error {
		for range 1 + m.rnd.IntN(4) {
			name := m.names[m.rnd.IntN(len(m.names))]
			if exists[name] && m.rnd.IntN(4) == 0 {
				if err := x.Delete(name.Namespace, name.Name); err != nil {
					return err
				}
				after[name], exists[name] = m.newTable(), false
				continue
			}
			s, mode := after[name], tables.PutAppend
			r, rows := s.reader(m.ticks(300), 20)
			before, o := s.rows, m.putOptions(s)
			if m.rnd.IntN(3) == 0 {
				mode, before = tables.PutReplace, nil
			}
			if err := x.Put(name.Namespace, name.Name, r, mode, o); err != nil {
				rejected = errors.As(err, new(*tables.DuplicateError))
				return err
			}
			if s.ids[o.ID] {
				continue
			}
			newRows, isRejected := s.put(before, rows)
			rejected = rejected || isRejected
			s.applied(o, newRows, len(rows) > 0 || mode == tables.PutReplace, !exists[name] || mode == tables.PutReplace)
			if exists[name] = true; mode == tables.PutReplace && s.wType == "int64" {
				s.wType = "int32" // the type that reader gives the column
			}
		}
		if fails {
			return errFail
		}
		return nil
	})
	switch {
	case rejected && !errors.Is(err, errFail):
		return expectDuplicate(err)
	case fails:
		return expect(err, true, errFail)
	case err == nil:
		m.tables = after
	}
	return err
}

func (m *model) setMetadata(ctx context.Context, name tables.TableName) error {
	meta, exists := tables.Metadata{"m": fmt.Sprint(m.next)}, m.exists(name)
	err := m.table(name).ChangeMetadata(ctx, tables.MetadataChange{Set: meta, Replace: true})
	if exists && err == nil {
		m.tables[name].meta = meta
	}
	return expect(err, !exists, tables.ErrNotFound)
}
