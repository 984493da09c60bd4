package tables_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-partd/partd/tables"
)

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
	err := m.table(name).SetMetadata(ctx, meta)
	if exists && err == nil {
		m.tables[name].meta = meta
	}
	return expect(err, !exists, tables.ErrNotFound)
}
