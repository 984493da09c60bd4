package foreign

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/rows/schema"
	"github.com/go-partd/partd/tables/internal/state/definition"
)

// footerReaders is the number of files whose footers checkFields reads concurrently. In an object store, each footer takes
// several requests.
const footerReaders = 16

// checkFields returns an error if the table's columns cannot represent the values of a new data file, perhaps because its
// writer had loaded the table before the columns were replaced or restored. Readers would get nulls or wrong values, or
// fail. checkFields reads the footer of each file. Files without field IDs are allowed, because their fields have names.
func (c *manifestCheck) checkFields(ctx context.Context) error {
	isColumn := func(id int) bool {
		_, ok := c.newMeta.CurrentSchema().FindFieldByID(id)
		if !ok {
			_, ok = definition.SpecOf(c.newMeta.PartitionSpecs(), id)
		}
		return ok
	}
	scan, err := datafile.NewScan(ctx, c.staged, c.newMeta.CurrentSchema(), nil, nil)
	if errors.As(err, new(*schema.Error)) { // only other programs can read the types
		scan, err = datafile.NewScan(ctx, c.staged, iceberg.NewSchema(0), nil, nil)
	}
	if err != nil {
		return err
	}
	return parallel.Each(ctx, maps.Keys(c.added), footerReaders, func(ctx context.Context, file string) error {
		if ctx.Err() != nil {
			return canceled.Err(ctx)
		}
		fields, err := scan.FieldsOf(ctx, file)
		if errors.As(err, new(*partd.CorruptError)) {
			err = &definition.ArgumentError{Err: err}
		}
		if err != nil {
			return asClientError(err)
		}
		if len(fields.Unreadable) > 0 {
			return &definition.ArgumentError{Err: fmt.Errorf("the table's columns cannot represent the values in the file %s (%s): load the table again, and write the rows again", path.Base(file), strings.Join(fields.Unreadable, ", "))}
		}
		return checkNames(path.Base(file), fields.Names, isColumn, c.isReplaced)
	})
}

// checkNames returns an error if a file has none of the table's columns or has a replaced column. names maps the IDs of
// the file's fields to their names.
func checkNames(file string, names map[int]string, isColumn, isReplaced func(id int) bool) error {
	var unknown, replaced []string
	fields := 0
	for _, id := range slices.Sorted(maps.Keys(names)) {
		switch {
		case iceberg.IsMetadataColumn(id):
			continue
		case !isColumn(id):
			unknown = append(unknown, names[id])
			if isReplaced(id) {
				replaced = append(replaced, names[id])
			}
		}
		fields++
	}
	if len(unknown) == fields {
		replaced = unknown
	}
	if len(replaced) == 0 {
		return nil
	}
	return &definition.ArgumentError{Err: fmt.Errorf("the fields %q of the file %s are not columns of the table, perhaps because the table was replaced: load the table again, and write the rows again", replaced, file)}
}
