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
	partdiceberg "github.com/go-partd/partd/tables/iceberg"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	statecommit "github.com/go-partd/partd/tables/internal/state/commit"
)

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
	identifiers := make([]identifier, len(names))
	for i, name := range names {
		identifiers[i] = identifier{[]string{b.Namespace()}, name}
	}
	return q.reply(http.StatusOK, map[string]any{"identifiers": identifiers, "next-page-token": p.next(names)})
}

func (h *handler) createTable(q *request, b *tables.Bucket) error {
	var in struct {
		Name       string                        `json:"name"`
		Location   string                        `json:"location"`
		Schema     *iceberg.Schema               `json:"schema"`
		Spec       *iceberg.UnboundPartitionSpec `json:"partition-spec"` // unbound, because clients may number columns from 0, and the catalog renumbers them
		Order      *table.UnboundSortOrder       `json:"write-order"`
		Stage      bool                          `json:"stage-create"`
		Properties iceberg.Properties            `json:"properties"`
	}
	if err := q.parse(&in); err != nil {
		return err
	}
	serving.Note(q.Ctx, "", "", in.Name)
	switch {
	case in.Schema == nil:
		return invalid("a table needs a schema")
	case in.Location != "":
		return invalid("location is %.80q: omit it, because the catalog chooses the location of a table", in.Location)
	}
	if in.Properties == nil {
		in.Properties = iceberg.Properties{}
	}
	spec := cmp.Or(in.Spec, &iceberg.UnboundPartitionSpec{PartitionSpec: *iceberg.UnpartitionedSpec})
	order := cmp.Or(in.Order, &table.UnboundSortOrder{SortOrder: table.UnsortedSortOrder})
	meta, err := partdiceberg.NewMetadata(h.store, in.Schema, &spec.PartitionSpec, order.SortOrder, in.Properties)
	if err != nil {
		return err
	}
	if in.Stage {
		return h.stage(q, b.Table(in.Name), meta)
	}
	return h.commit(q, b, partdiceberg.Change{Bucket: b.Name(), Table: in.Name, New: meta})
}

// stage prepares the creation of a table, which a later commit completes.
func (h *handler) stage(q *request, t *tables.Table, meta table.Metadata) error {
	if err := partdiceberg.Stage(q.Ctx, t, meta); err != nil {
		return err
	}
	if q.key != nil {
		if err := q.willReply(http.StatusOK, meta); err != nil {
			return err
		}
		if err := h.catalog().AddKey(q.Ctx); err != nil {
			return err
		}
	}
	return h.replyTable(q, t.Bucket(), "", meta.Location(), meta)
}

type tableName struct {
	bucket *tables.Bucket
	name   string
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
	serving.Note(q.Ctx, "", "", in.Name)
	if in.Overwrite {
		return invalid("an existing table cannot be overwritten: drop it first")
	}
	meta, err := partdiceberg.ReadMetadata(q.Ctx, h.store, in.Location, q.charge)
	if err != nil {
		return err
	}
	return h.commit(q, b, partdiceberg.Change{Bucket: b.Name(), Table: in.Name, New: meta, Registered: true})
}

// charge reserves n bytes of the server's memory for decoded JSON until the request ends, unless n is small.
func (q *request) charge(n int64) error {
	if n < icecat.CostPerByte*largeBody {
		return nil
	}
	return q.Charge(n)
}

// chargeTables reserves memory for the parsed body and the metadata of tables. If mayCreate is true, it ignores
// tables that do not exist.
func (q *request) chargeTables(mayCreate bool, names ...tableName) error {
	cost := q.cost
	for _, t := range names {
		n, err := t.bucket.Table(t.name).MetadataSize(q.Ctx)
		if err != nil && !(mayCreate && errors.Is(err, tables.ErrNotFound)) {
			return err
		}
		cost += icecat.CostPerByte * n
	}
	return q.charge(cost)
}

// loadTable responds with a table's metadata. Unless the request has fold=false, loadTable first folds the table (see
// Options.FoldEvery).
func (h *handler) loadTable(q *request, b *tables.Bucket) error {
	v := q.URL.Query()
	refsOnly := false
	switch v.Get("snapshots") {
	case "refs":
		refsOnly = true
	case "", "all":
	default:
		return invalid("snapshots is %.40q: it must be all or refs", v.Get("snapshots"))
	}
	o := &partdiceberg.LoadOptions{Fold: v.Get("fold") != "false", Every: h.rest.FoldEvery, Admit: serving.AcquirePut}
	if err := q.chargeTables(false, tableName{b, q.PathValue("table")}); err != nil {
		return err
	}
	t, err := partdiceberg.Load(q.Ctx, b.Table(q.PathValue("table")), o)
	if err != nil {
		return err
	}
	tag := etag(t.MetadataLocation(), refsOnly)
	q.W.Header().Set("ETag", tag)
	for _, tags := range q.Header.Values("If-None-Match") {
		for known := range strings.SplitSeq(tags, ",") {
			if strings.TrimPrefix(strings.TrimSpace(known), "W/") == tag {
				return q.reply(http.StatusNotModified, nil)
			}
		}
	}
	meta := t.Metadata()
	if !statecommit.MayAudit(q.Ctx) {
		meta, err = statecommit.WithoutUsers(meta)
		if err != nil {
			return err
		}
	}
	if refsOnly {
		return h.replyTable(q, b, t.MetadataLocation(), t.Location(), onlyRefs(meta))
	}
	return h.replyTable(q, b, t.MetadataLocation(), t.Location(), meta)
}

// etag returns the ETag of a response with the metadata at a location. refs says whether the response contains only
// snapshots to which a branch or tag refers.
func etag(location string, refs bool) string {
	sum := sha256.Sum256([]byte(location))
	return strconv.Quote(base64.RawURLEncoding.EncodeToString(sum[:16]) + map[bool]string{true: "-refs", false: ""}[refs])
}

func (h *handler) tableExists(q *request, b *tables.Bucket) error {
	_, err := b.Table(q.PathValue("table")).MetadataSize(q.Ctx)
	return q.replyEmpty(err)
}

// dropTable deletes a table, whether or not the client requests a purge. The table's files are removed later, once no
// snapshot of the bucket, no reader and no grace period protects them.
func (h *handler) dropTable(q *request, b *tables.Bucket) error {
	return q.replyEmpty(b.Delete(q.Ctx, q.PathValue("table")))
}

func (h *handler) renameTable(q *request) error {
	var in struct{ Source, Destination identifier }
	if err := q.parse(&in); err != nil {
		return err
	}
	serving.Note(q.Ctx, "", "", in.Source.Name, in.Destination.Name)
	from, err := h.bucketOfTable(q, serving.Admin, in.Source)
	if err != nil {
		return err
	}
	to, err := h.bucketFor(q, serving.Admin, in.Destination.Namespace)
	if err == nil {
		err = checkExists(q, to)
	}
	if err != nil {
		return err
	}
	return q.replyEmpty(from.Table(in.Source.Name).Rename(q.Ctx, to, in.Destination.Name))
}

// report receives an engine's measurements of a scan or a commit. It logs at most one report per second, with the
// number of reports so far.
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
	if _, err := partdiceberg.Load(q.Ctx, b.Table(name), nil); err != nil {
		return err
	}
	const maxLogged = 2 << 10 // bytes of a report's metrics
	now, last := time.Now().Unix(), h.lastReport.Load()
	if n := h.reports.Add(1); now > last && h.lastReport.CompareAndSwap(last, now) {
		h.opts.Logger.Info("an engine's report", "bucket", b.Name(), "table", name, "type", in.Type[:min(len(in.Type), 40)],
			"snapshot", in.Snapshot, "metrics", string(in.Metrics[:min(len(in.Metrics), maxLogged)]), "reports", n)
	}
	return q.reply(http.StatusNoContent, nil)
}

// replyTable responds with a table's metadata. metadataFile is the location of the metadata file, or "" for a staged
// table. The response contains credentials for the files if the client requests them and Options.Lend is not nil.
func (h *handler) replyTable(q *request, b *tables.Bucket, metadataFile, location string, meta any) error {
	config := map[string]string{}
	maps.Copy(config, h.rest.Storage)
	answer := map[string]any{"metadata": meta, "config": config}
	if metadataFile != "" {
		answer["metadata-location"] = metadataFile
	}
	if h.rest.Lend != nil && strings.Contains(q.Header.Get("X-Iceberg-Access-Delegation"), "vended-credentials") {
		credentials, err := h.lend(q, b, location)
		if err != nil {
			return err
		}
		maps.Copy(config, credentials)
		answer["storage-credentials"] = storageCredentials(location, credentials)
	}
	return q.reply(http.StatusOK, answer)
}

// lend returns credentials for the files at a location. They allow writing only if the caller may write to the bucket.
func (h *handler) lend(q *request, b *tables.Bucket, location string) (map[string]string, error) {
	credentials, err := h.rest.Lend(q.Ctx, location, q.Caller.CheckAccess(serving.Admin, b.Name()) == nil)
	if err != nil {
		h.opts.Logger.Error("creating credentials for a client failed", "location", location, "err", err)
		return nil, kinds.Unavailable.Errorf("the server cannot create credentials now: try again later; the server's log contains the cause")
	}
	return credentials, nil
}

func storageCredentials(location string, credentials map[string]string) any {
	return []any{map[string]any{"prefix": location, "config": credentials}}
}

// credentials responds with new credentials, which clients request before their old ones expire.
func (h *handler) credentials(q *request, b *tables.Bucket) error {
	t, err := partdiceberg.Load(q.Ctx, b.Table(q.PathValue("table")), nil)
	if err != nil {
		return err
	}
	credentials, err := h.lend(q, b, t.Location())
	if err != nil {
		return err
	}
	return q.reply(http.StatusOK, map[string]any{"storage-credentials": storageCredentials(t.Location(), credentials)})
}
