package rest

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
)

// identifier names a table in bodies.
type identifier struct {
	Namespace []string `json:"namespace"`
	Name      string   `json:"name"`
}

func (h *handler) listTables(q *request, b *tables.Bucket) error {
	p, err := q.page()
	if err != nil {
		return err
	}
	names, err := b.IcebergNames(q.Ctx, p.after, p.size)
	if err != nil {
		return err
	}
	all := make([]identifier, len(names))
	for i, name := range names {
		all[i] = identifier{[]string{b.Namespace()}, name}
	}
	return q.reply(http.StatusOK, map[string]any{"identifiers": all, "next-page-token": p.next(names)})
}

// missing says of what is not there whether it is its namespace that is not.
func missing(q *request, b *tables.Bucket, err error) error {
	if errors.Is(err, tables.ErrNotFound) {
		if none := exists(q, b); none != nil {
			return none
		}
	}
	return err
}

func (h *handler) createTable(q *request, b *tables.Bucket) error {
	var in struct {
		Name       string                 `json:"name"`
		Location   string                 `json:"location"`
		Schema     *iceberg.Schema        `json:"schema"`
		Spec       *iceberg.PartitionSpec `json:"partition-spec"`
		Order      *table.SortOrder       `json:"write-order"`
		Stage      bool                   `json:"stage-create"`
		Properties iceberg.Properties     `json:"properties"`
	}
	if err := q.parse(&in); err != nil {
		return err
	}
	switch {
	case in.Schema == nil:
		return invalid("a table has a schema")
	case in.Location != "":
		return invalid("the catalog chooses where a table is: leave out location %.80q", in.Location)
	}
	if in.Properties == nil {
		in.Properties = iceberg.Properties{}
	}
	meta, err := h.store.NewIceberg(in.Schema, cmp.Or(in.Spec, iceberg.UnpartitionedSpec), *cmp.Or(in.Order, &table.UnsortedSortOrder), in.Properties)
	if err != nil {
		return err
	}
	if in.Stage {
		if _, err := b.Iceberg(q.Ctx, in.Name, nil); !errors.Is(err, tables.ErrNotFound) {
			return cmp.Or(err, tables.ErrExists)
		}
		return h.replyTable(q, b, "", meta.Location(), meta)
	}
	return h.create(q, b, tables.IcebergChange{Bucket: b.Name(), Table: in.Name, New: meta})
}

// create makes a table, and answers with it.
func (h *handler) create(q *request, b *tables.Bucket, c tables.IcebergChange) error {
	made, err := h.store.CommitIceberg(q.Ctx, c)
	if err != nil {
		return err
	}
	q.W.Header().Set("ETag", etag(made[0].MetadataLocation(), false))
	return h.replyTable(q, b, made[0].MetadataLocation(), made[0].Location(), made[0].Metadata())
}

func (h *handler) registerTable(q *request, b *tables.Bucket) error {
	var in struct {
		Name      string `json:"name"`
		Location  string `json:"metadata-location"`
		Overwrite bool   `json:"overwrite"`
	}
	if err := q.parse(&in); err != nil {
		return err
	}
	if in.Overwrite {
		return invalid("a table that is there is not overwritten: drop it first")
	}
	meta, err := h.store.ReadIceberg(q.Ctx, in.Location)
	if err != nil {
		return err
	}
	return h.create(q, b, tables.IcebergChange{Bucket: b.Name(), Table: in.Name, New: meta})
}

// loadTable answers with a table once what waits in the tail is in files.
func (h *handler) loadTable(q *request, b *tables.Bucket) error {
	v := q.URL.Query()
	refs := false
	switch v.Get("snapshots") {
	case "refs":
		refs = true
	case "", "all":
	default:
		return invalid("snapshots is %.40q: it has to be all or refs", v.Get("snapshots"))
	}
	o := &tables.IcebergOptions{Fold: v.Get("fold") != "false", Every: h.own.FoldEvery, Slot: flightd.AcquirePut}
	t, err := b.Iceberg(q.Ctx, q.PathValue("table"), o)
	if err != nil {
		return err
	}
	tag := etag(t.MetadataLocation(), refs)
	q.W.Header().Set("ETag", tag)
	for _, known := range q.Header.Values("If-None-Match") {
		for one := range strings.SplitSeq(known, ",") {
			if strings.TrimPrefix(strings.TrimSpace(one), "W/") == tag {
				return q.reply(http.StatusNotModified, nil)
			}
		}
	}
	if refs {
		return h.replyTable(q, b, t.MetadataLocation(), t.Location(), onlyRefs(t.Metadata()))
	}
	return h.replyTable(q, b, t.MetadataLocation(), t.Location(), t.Metadata())
}

// etag is the same for the same metadata with the same snapshots.
func etag(location string, refs bool) string {
	sum := sha256.Sum256([]byte(location))
	return strconv.Quote(base64.RawURLEncoding.EncodeToString(sum[:16]) + map[bool]string{true: "-refs", false: ""}[refs])
}

func (h *handler) tableExists(q *request, b *tables.Bucket) error {
	_, err := b.Iceberg(q.Ctx, q.PathValue("table"), nil)
	return q.done(err)
}

// dropTable deletes a table. Its files go once no snapshot of the bucket, no reader and no
// time of grace keeps them, whether a purge is asked for or not.
func (h *handler) dropTable(q *request, b *tables.Bucket) error {
	return q.done(b.Delete(q.Ctx, q.PathValue("table")))
}

func (h *handler) renameTable(q *request) error {
	var in struct{ Source, Destination identifier }
	if err := q.parse(&in); err != nil {
		return err
	}
	from, err := h.allowed(q, flightd.Admin, in.Source.Namespace)
	if err != nil {
		return err
	}
	to, err := h.allowed(q, flightd.Admin, in.Destination.Namespace)
	if err == nil {
		err = exists(q, to)
	}
	if err != nil {
		return err
	}
	return q.done(missing(q, from, from.Rename(q.Ctx, in.Source.Name, to, in.Destination.Name)))
}

// report takes what a client measured: the figures count it, and some are in the log.
func (h *handler) report(q *request, b *tables.Bucket) error {
	var in struct {
		Type     string          `json:"report-type"`
		Snapshot json.Number     `json:"snapshot-id"`
		Metrics  json.RawMessage `json:"metrics"`
	}
	if err := q.parse(&in); err != nil {
		return err
	}
	name := q.PathValue("table")
	if _, err := b.Iceberg(q.Ctx, name, nil); err != nil {
		return err
	}
	const most = 2 << 10 // bytes of it in the log
	now, last := time.Now().Unix(), h.reported.Load()
	if n := h.reports.Add(1); now > last && h.reported.CompareAndSwap(last, now) { // at most one in a second
		h.opts.Logger.Info("an engine's report", "bucket", b.Name(), "table", name, "type", in.Type[:min(len(in.Type), 40)],
			"snapshot", in.Snapshot, "metrics", string(in.Metrics[:min(len(in.Metrics), most)]), "reports", n)
	}
	return q.reply(http.StatusNoContent, nil)
}

// replyTable answers with a table; one that is staged has no metadata in a file. Who asks
// for keys to its files gets them where some are lent; others have to have their own.
func (h *handler) replyTable(q *request, b *tables.Bucket, metadata, location string, meta any) error {
	config := map[string]string{}
	maps.Copy(config, h.own.Storage)
	answer := map[string]any{"metadata": meta, "config": config}
	if metadata != "" {
		answer["metadata-location"] = metadata
	}
	if h.own.Lend != nil && strings.Contains(q.Header.Get("X-Iceberg-Access-Delegation"), "vended-credentials") {
		lent, err := h.lend(q, b, location)
		if err != nil {
			return err
		}
		maps.Copy(config, lent)
		answer["storage-credentials"] = storage(location, lent)
	}
	return q.reply(http.StatusOK, answer)
}

// lend returns keys for what the caller may do.
func (h *handler) lend(q *request, b *tables.Bucket, location string) (map[string]string, error) {
	lent, err := h.own.Lend(q.Ctx, location, q.Caller.MayUse(flightd.Admin, b.Name()) == nil)
	if err != nil {
		h.opts.Logger.Error("no keys could be lent", "location", location, "err", err)
		return nil, &problem{Code: http.StatusServiceUnavailable, Type: "ServiceUnavailableException", Message: "no keys can be lent now; the server's log says why"}
	}
	return lent, nil
}

func storage(location string, lent map[string]string) any {
	return []any{map[string]any{"prefix": location, "config": lent}}
}

// credentials answers with keys for a table whose former ones end.
func (h *handler) credentials(q *request, b *tables.Bucket) error {
	t, err := b.Iceberg(q.Ctx, q.PathValue("table"), nil)
	if err != nil {
		return err
	}
	lent, err := h.lend(q, b, t.Location())
	if err != nil {
		return err
	}
	return q.reply(http.StatusOK, map[string]any{"storage-credentials": storage(t.Location(), lent)})
}
