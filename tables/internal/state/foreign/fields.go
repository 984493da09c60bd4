package foreign

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/datafile"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
	"github.com/go-partd/partd/tables/internal/state/definition"
)

// maxFooters is the maximum number of new data files in a commit whose fields are checked.
const maxFooters = 10_000

// checkFields returns an error if the writer of a new data file had loaded the table before its columns were replaced, so
// that readers would get nulls instead of the file's values. It reads the footer of each file. Files without field IDs
// are allowed, because their fields have names.
func (c *manifestCheck) checkFields(ctx context.Context) error {
	isReplaced, err := definition.ReplacedColumns(c.newMeta)
	if err != nil {
		return err
	}
	isColumn := func(id int) bool {
		_, ok := c.newMeta.CurrentSchema().FindFieldByID(id)
		if !ok {
			_, ok = definition.SpecOf(c.newMeta.PartitionSpecs(), id)
		}
		return ok
	}
	fileIO := c.catalog.NewIO()
	return parallel.Each(ctx, slices.Values(c.added), 0, func(ctx context.Context, file string) error {
		if ctx.Err() != nil {
			return canceled.Err(ctx)
		}
		names, err := datafile.FieldNames(fileIO, file)
		if err != nil {
			return asClientError(err)
		}
		return checkNames(path.Base(file), names, isColumn, isReplaced)
	})
}

// checkNames returns an error if a file's fields, with the given names by ID, contain none of the table's columns, or a
// column that was replaced.
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
