package tables

import (
	"cmp"
	"context"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"
)

// dataFiles returns the data files of a table's current snapshot.
func dataFiles(ctx context.Context, t *table.Table, o ...table.ScanOption) ([]iceberg.DataFile, error) {
	tasks, err := t.Scan(o...).PlanFiles(ctx)
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
		return cmp.Or(inNameOrder(a.File.FilePath(), b.File.FilePath()), cmp.Compare(a.Start, b.Start))
	})
}

// inNameOrder compares files of one commit by when they were written, which the names
// of ours tell: <partition>-<number>-<id>-<count>.parquet, with an id of the writer
// that grows, and a number that is not padded.
func inNameOrder(a, b string) int {
	of := func(p string) (id string, n int) {
		_, p, _ = strings.Cut(path.Base(p), "-")
		number, id, _ := strings.Cut(p, "-")
		n, _ = strconv.Atoi(number)
		return id[:min(len(id), len(uuid.UUID{}.String()))], n
	}
	idA, nA := of(a)
	idB, nB := of(b)
	return cmp.Or(strings.Compare(idA, idB), cmp.Compare(nA, nB), strings.Compare(a, b))
}
