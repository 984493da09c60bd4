package page

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

type snapshotJSON struct {
	Name   string    `json:"name"`
	Time   time.Time `json:"time"`
	Tables int       `json:"tables"`
}

func (h *handler) snapshots(q *request, bucket string) ([]snapshotJSON, error) {
	snapshots, err := h.store.Bucket(bucket).Snapshots(q.Ctx)
	out := make([]snapshotJSON, len(snapshots))
	for i, s := range snapshots {
		out[i] = snapshotJSON{s.Name, s.Time, s.Tables}
	}
	return out, err
}

type tableJSON struct {
	Name     string          `json:"name"`
	Rows     int64           `json:"rows"`
	Bytes    int64           `json:"bytes"`
	Version  tables.Version  `json:"version"`
	Updated  time.Time       `json:"updated"`
	Metadata tables.Metadata `json:"metadata"`
	AtMost   tables.AtMost   `json:"rows_exact,omitzero"`
}

type bucketJSON struct {
	Name      string         `json:"name"`
	Tables    []tableJSON    `json:"tables"`
	Snapshots []snapshotJSON `json:"snapshots"`
}

// treePosition identifies the last table on a page of the tree, after which the next page begins.
type treePosition struct {
	Bucket string `json:"bucket"`
	Table  string `json:"table"`
}

func intParam(params url.Values, name string, defaultValue, minimum, maximum int64) (int64, error) {
	text := params.Get(name)
	if text == "" {
		return defaultValue, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < minimum || n > maximum {
		return 0, invalid("%s is %.40q: it must be a number from %d to %d", name, text, minimum, maximum)
	}
	return n, nil
}

func (h *handler) tree(q *request) error {
	params := q.URL.Query()
	remaining, err := intParam(params, "limit", 1000, 1, 10_000)
	if err != nil {
		return err
	}
	after := treePosition{params.Get("after_bucket"), params.Get("after")}
	words := strings.Fields(strings.ToLower(params.Get("search")))
	f := &tables.Filter{Snapshot: params.Get("snapshot")}
	if f.Snapshot != "" && !params.Has("bucket") {
		return invalid("snapshot= requires bucket=, because each bucket has its own snapshots")
	}
	if err := checkNames(params.Get("bucket"), f.Snapshot); err != nil {
		return err
	}
	var buckets []string
	for name, err := range h.store.Buckets(q.Ctx) {
		if err != nil {
			return err
		}
		if name >= after.Bucket && (!params.Has("bucket") || name == params.Get("bucket")) && q.Caller.CheckAccess(serving.Read, name) == nil {
			buckets = append(buckets, name)
		}
	}
	slices.Sort(buckets)
	out := struct {
		Buckets []bucketJSON  `json:"buckets"`
		Next    *treePosition `json:"next"`
	}{Buckets: []bucketJSON{}}
	for _, name := range buckets {
		b := bucketJSON{Name: name, Tables: []tableJSON{}, Snapshots: []snapshotJSON{}}
		isNew := name != after.Bucket || after.Table == "" // whether the bucket was not on an earlier page
		for info, err := range h.store.Bucket(name).Tables(q.Ctx, f) {
			switch {
			case err != nil:
				return err
			case name == after.Bucket && info.Name <= after.Table || !matches(info, words):
				continue
			case remaining == 0:
				out.Next = &after
			}
			if out.Next != nil {
				break
			}
			remaining, after = remaining-1, treePosition{name, info.Name}
			b.Tables = append(b.Tables, tableJSON{info.Name, info.Rows, info.Bytes, info.Version, info.Updated, info.Metadata, info.AtMost})
		}
		if isNew {
			b.Snapshots, err = h.snapshots(q, name)
			if err != nil {
				return err
			}
		}
		if len(b.Tables) > 0 || len(words) == 0 && isNew {
			out.Buckets = append(out.Buckets, b)
		}
		if out.Next != nil {
			break
		}
	}
	return q.reply(out)
}

// matches reports whether every word occurs in the table's names or metadata.
func matches(info tables.TableInfo, words []string) bool {
	if len(words) == 0 {
		return true
	}
	text := []string{info.Bucket, info.Name}
	for key, value := range info.Metadata {
		text = append(text, fmt.Sprintf("%s=%v", key, value))
	}
	joined := strings.ToLower(strings.Join(text, "\n"))
	return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(joined, w) })
}

// parseState parses a version or a snapshot name. If both are empty, it returns nil, which means the current state.
func parseState(version, snapshot string) (tables.At, error) {
	switch {
	case version != "" && snapshot != "":
		return nil, invalid("version= and snapshot= cannot be combined")
	case snapshot != "":
		return tables.AtSnapshot(snapshot), checkNames(snapshot)
	case version != "":
		n, err := strconv.ParseInt(version, 10, 64)
		if err != nil {
			return nil, invalid("version is %.40q: it must be a number", version)
		}
		return tables.AtVersion(tables.Version(n)), nil
	}
	return nil, nil
}

// tableState is the table of a request, in the requested state.
type tableState struct {
	bucket, name string
	at           tables.At
	table        *tables.Table
	schema       *arrow.Schema
}

func (h *handler) selectTable(q *request) (_ *tableState, err error) {
	s := &tableState{}
	s.bucket, s.name, err = q.names()
	if err != nil {
		return nil, err
	}
	params := q.URL.Query()
	s.at, err = parseState(params.Get("version"), params.Get("snapshot"))
	if err != nil {
		return nil, err
	}
	s.table, err = h.store.Bucket(s.bucket).Table(s.name).At(q.Ctx, s.at)
	if err != nil {
		return nil, err
	}
	s.schema, err = s.table.Schema(q.Ctx)
	return s, err
}

type columnJSON struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Nullable bool   `json:"nullable"`
}

type versionJSON struct {
	Version   tables.Version `json:"version"`
	Time      time.Time      `json:"time"`
	Operation string         `json:"operation"`
	Rows      int64          `json:"rows"`
	Current   bool           `json:"current"`
	AtMost    tables.AtMost  `json:"rows_exact,omitzero"`
}

func (h *handler) table(q *request) error {
	s, err := h.selectTable(q)
	if err != nil {
		return err
	}
	info, err := s.table.Info(q.Ctx)
	if err != nil {
		return err
	}
	out := struct {
		Bucket string `json:"bucket"`
		Table  string `json:"table"`
		tableJSON
		Name      *struct{}       `json:"name,omitempty"` // hides tableJSON.Name; Table has the name
		Columns   []columnJSON    `json:"columns"`
		Versions  []versionJSON   `json:"versions"`
		Snapshots []snapshotJSON  `json:"snapshots"`
		Settings  tables.Settings `json:"settings"`

		Maintenance *tables.MaintenanceState `json:"maintenance"` // null if the request names a version or a snapshot
	}{Bucket: s.bucket, Table: s.name, tableJSON: tableJSON{info.Name, info.Rows, info.Bytes, info.Version, info.Updated, info.Metadata, info.AtMost}, Columns: []columnJSON{}, Versions: []versionJSON{}}
	for _, f := range s.schema.Fields() {
		out.Columns = append(out.Columns, columnJSON{f.Name, f.Type.String(), f.Nullable})
	}
	const maxVersions = 1000
	versions, err := s.table.Versions(q.Ctx)
	for _, v := range versions[max(0, len(versions)-maxVersions):] {
		out.Versions = append(out.Versions, versionJSON{v.Version, v.Time, v.Operation, v.Rows, v.Current, v.AtMost})
	}
	var snapshotsErr, settingsErr error
	out.Snapshots, snapshotsErr = h.snapshots(q, s.bucket)
	out.Settings, settingsErr = s.table.Settings(q.Ctx)
	if v := q.URL.Query(); v.Get("version")+v.Get("snapshot") == "" {
		state, stateErr := h.store.Bucket(s.bucket).Table(s.name).Maintenance(q.Ctx)
		out.Maintenance, err = &state, errors.Join(err, stateErr)
	}
	err = cmp.Or(err, snapshotsErr, settingsErr, q.Caller.CheckAccess(serving.Read, s.bucket))
	if err != nil {
		return err
	}
	return q.reply(out)
}
