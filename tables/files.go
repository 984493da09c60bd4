package tables

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

// dataFiles returns the data files of a table's current snapshot.
func dataFiles(ctx context.Context, t *table.Table) ([]iceberg.DataFile, error) {
	tasks, err := t.Scan().PlanFiles(ctx)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var files []iceberg.DataFile
	for _, task := range tasks {
		if !seen[task.File.FilePath()] {
			seen[task.File.FilePath()] = true
			files = append(files, task.File)
		}
	}
	return files, nil
}

// inOrder sorts files by when their rows were put.
func inOrder(tasks []table.FileScanTask) {
	slices.SortStableFunc(tasks, func(a, b table.FileScanTask) int {
		if a.DataSequenceNumber != nil && b.DataSequenceNumber != nil && *a.DataSequenceNumber != *b.DataSequenceNumber {
			return cmp.Compare(*a.DataSequenceNumber, *b.DataSequenceNumber)
		}
		return cmp.Or(strings.Compare(a.File.FilePath(), b.File.FilePath()), cmp.Compare(a.Start, b.Start))
	})
}
