package transform

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/sql/sqltext"
)

// Clean removes rows from a table. If the kept rows replace the source's rows, concurrent puts into the source are not
// lost.
func Clean(ctx context.Context, s *tables.Store, o *CleanOptions) (_ Result, err error) {
	o = cmp.Or(o, new(CleanOptions))
	defer func() { err = opError("clean", o.Source, err) }()
	if o.Target != nil && *o.Target != o.Source {
		table := s.Bucket(o.Source.Bucket).Table(o.Source.Name)
		return putKeptRows(ctx, s, o, table, *o.Target, o.Mode, nil)
	}
	for range maxAttempts { // another replacement or a compaction may commit first
		r, err := cleanInPlace(ctx, s, o)
		if !errors.Is(err, tables.ErrConflict) {
			return r, err
		}
	}
	return Result{}, tables.ErrConflict
}

// cleanInPlace replaces the rows of the source's newest version with the kept rows. First, it folds the source: it
// moves rows that were put recently into the version's files.
func cleanInPlace(ctx context.Context, s *tables.Store, o *CleanOptions) (Result, error) {
	from := o.Source
	if _, err := s.Fold(ctx, &tables.MaintainOptions{Buckets: tables.Buckets{from.Bucket}, Tables: []string{from.Name}}); err != nil {
		return Result{}, err
	}
	table := s.Bucket(from.Bucket).Table(from.Name)
	info, err := table.Info(ctx)
	if err != nil {
		return Result{}, err
	}
	if info.Version > 0 { // version 0 has no rows, so only check the options
		table, err = s.Bucket(from.Bucket).Table(from.Name).At(ctx, tables.AtVersion(info.Version))
		if err != nil {
			return Result{}, err
		}
	}
	return putKeptRows(ctx, s, o, table, from, tables.PutReplace, &info.Version)
}

// putKeptRows puts those rows of table that o keeps. If version is not nil, table is pinned to this version, and the
// kept rows replace its rows.
func putKeptRows(ctx context.Context, s *tables.Store, o *CleanOptions, table *tables.Table, to TableName, m tables.PutMode, version *tables.Version) (Result, error) {
	schema, sourceRows, err := inspect(ctx, table)
	if err != nil {
		return Result{}, err
	}
	sql, err := keptRowsSQL(schema, o)
	if err != nil {
		return Result{}, err
	}
	q, p := &tables.QueryOptions{Bucket: o.Source.Bucket}, &tables.PutOptions{Over: version}
	if version != nil && *version > 0 {
		q.At = tables.AtVersion(*version)
	}
	rows, err := s.Query(ctx, sql, q)
	if err != nil {
		return Result{}, err
	}
	r := castReader(rows, schema)
	defer r.Release()
	if version != nil && *version == 0 {
		return Result{}, nil
	}
	n, err := put(ctx, s, r, to, m, p)
	return Result{sourceRows, n}, err
}

// keptRowsSQL returns the statement that selects the kept rows. For KeepFirstOf, the statement numbers the rows and
// selects the row with the lowest number for each combination of values.
func keptRowsSQL(schema *arrow.Schema, o *CleanOptions) (string, error) {
	var conditions []string
	if o.Where != "" {
		conditions = append(conditions, "("+o.Where+"\n)") // the line break ends a line comment in the condition
	}
	notNull := o.DropNulls
	if o.DropAnyNull {
		notNull = nil
		for _, f := range schema.Fields() {
			notNull = append(notNull, f.Name)
		}
	}
	for _, name := range notNull {
		f, err := field(schema, name)
		if err != nil {
			return "", err
		}
		c := sqltext.Name(name) + " IS NOT NULL"
		if arrow.IsFloating(f.Type.ID()) {
			c += " AND NOT isnan(" + sqltext.Name(name) + ")"
		}
		conditions = append(conditions, c)
	}
	if len(conditions) == 0 && len(o.KeepFirstOf) == 0 {
		return "", errors.New("nothing to remove: set a condition, columns that must not be null, or columns whose combinations of values are kept only once")
	}
	sql := "SELECT * FROM " + sqltext.Name(o.Source.Name)
	if len(conditions) > 0 {
		sql += " WHERE " + strings.Join(conditions, " AND ")
	}
	if len(o.KeepFirstOf) == 0 {
		return sql, nil
	}
	var keys []string
	for _, name := range o.KeepFirstOf {
		if _, err := field(schema, name); err != nil {
			return "", err
		}
		keys = append(keys, sqltext.Name(name))
	}
	number := "number"
	for schema.HasField(number) {
		number += "_"
	}
	// To save memory, group only the keys, and read the larger rows a second time.
	rows := fmt.Sprintf("(SELECT *, row_number() OVER () AS %s FROM (%s))", number, sql)
	return fmt.Sprintf("SELECT * EXCLUDE (%[1]s) FROM %[2]s WHERE %[1]s IN (SELECT min(%[1]s) FROM %[2]s GROUP BY %[3]s)", number, rows, strings.Join(keys, ", ")), nil
}
