package tables

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/go-partd/partd/tables/internal/series"
)

// over is the part of a table that a put replaces: the files of a version.
type over struct{ files []iceberg.DataFile }

func (o *over) apply(ctx context.Context, a *attempt, cur *table.Table, p *putStep) (table.Metadata, error) {
	err := p.holds(cur)
	if errors.Is(err, errStale) {
		err = fmt.Errorf("%w: the version is not the newest any more, but for rows put later", ErrConflict)
	}
	if err != nil {
		return nil, err
	}
	if p.order != nil && p.order.Rule != "" && p.order.Rule != KeepAll {
		s, err := series.Of(cur, a.s.opts.Memory)
		if err != nil {
			return nil, err
		}
		all, err := s.Files(ctx)
		if err != nil {
			return nil, err
		}
		replaced := map[string]bool{}
		for _, f := range o.files {
			replaced[f.FilePath()] = true
		}
		later := slices.DeleteFunc(all, func(f *series.File) bool { return replaced[f.Data().FilePath()] })
		err = s.Refuse(ctx, later, p.files)
		if errors.As(err, new(*DuplicateError)) && p.order.Rule != RefuseDuplicate {
			err = fmt.Errorf("%w: rows put later are equal in time and keys to some that are to replace the version", ErrConflict)
		}
		if err != nil {
			return nil, err
		}
	}
	return replaceFiles(ctx, cur, o.files, p.files, nil)
}
