package rest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

const separator = "\x1f" // separates the levels of a namespace in a path

// bucketOf returns the bucket for a namespace, which must have one level and a valid name.
func (h *handler) bucketOf(levels ...string) (*tables.Bucket, error) {
	if len(levels) != 1 {
		return nil, invalid("a namespace in this catalog has one level, but this one has %d", len(levels))
	}
	name := levels[0]
	if !isTableName(name) || strings.Contains(name, separator) {
		return nil, invalid("%.40q is not a valid namespace name: it must be UTF-8 without the bytes 0x00 and 0x1f, of 1 to %d bytes", name, tables.MaxName)
	}
	return h.store.BucketOf(name), nil
}

func isTableName(name string) bool {
	return name != "" && len(name) <= tables.MaxName && utf8.ValidString(name) && !strings.Contains(name, "\x00")
}

// bucketFor returns a namespace's bucket if the caller has the given right. It does not check whether the bucket
// exists, so that callers without the right cannot find out. If the name is invalid, the error says that the namespace
// does not exist.
func (h *handler) bucketFor(q *request, right serving.Rights, namespace []string) (*tables.Bucket, error) {
	if right > serving.Read {
		if err := q.Caller.CheckAccess(right); err != nil {
			return nil, err
		}
	}
	b, err := h.bucketOf(namespace...)
	if err != nil {
		return nil, kinds.NamespaceNotFound.Errorf("%v", err)
	}
	serving.Note(q.Ctx, b.Name(), "")
	return b, q.Caller.CheckAccess(right, b.Name())
}

// bucketOfTable is like bucketFor, for the bucket of a table. If a name is invalid, the error says that the table does
// not exist. Spark relies on that: for a metadata table such as t.snapshots, it first requests the table snapshots in
// the namespace t.
func (h *handler) bucketOfTable(q *request, right serving.Rights, table identifier) (*tables.Bucket, error) {
	serving.Note(q.Ctx, "", "", table.Name)
	b, err := h.bucketFor(q, right, table.Namespace)
	if errors.As(err, new(*kinds.Error)) {
		return nil, kinds.NotFound.Errorf("%v", err)
	}
	if err == nil && !isTableName(table.Name) {
		return nil, kinds.NotFound.Errorf("%.40q is not a valid table name", table.Name)
	}
	return b, err
}

func checkExists(q *request, b *tables.Bucket) error {
	exists, err := b.Exists(q.Ctx)
	if err == nil && !exists {
		err = kinds.NamespaceNotFound.Errorf("Namespace does not exist: %s", b.Namespace())
	}
	return err
}

// page is a page in a list: at most size names, all greater than after.
type page struct {
	after string
	size  int
}

// maxNames limits the names in a page, and in a list without pages.
const maxNames = 1_000_000

func (q *request) page() (p page, err error) {
	v := q.URL.Query()
	p.size = maxNames
	after, err := base64.RawURLEncoding.DecodeString(v.Get("pageToken"))
	if err != nil {
		return p, invalid("pageToken is not from this catalog: use the next-page-token of the previous page")
	}
	p.after = string(after)
	if text := v.Get("pageSize"); text != "" {
		p.size, err = strconv.Atoi(text)
		if err != nil || p.size < 1 {
			return p, invalid("pageSize is %.40q: it must be an integer of at least 1", text)
		}
		p.size = min(p.size, maxNames)
	}
	return p, nil
}

// next returns the token for the page after names, or nil if there is no such page.
func (p page) next(names []string) any {
	if len(names) < p.size {
		return nil
	}
	return base64.RawURLEncoding.EncodeToString([]byte(names[len(names)-1]))
}

func (h *handler) listNamespaces(q *request) error {
	p, err := q.page()
	if err != nil {
		return err
	}
	if parent := q.URL.Query().Get("parent"); parent != "" {
		b, err := h.bucketFor(q, serving.Read, strings.Split(parent, separator))
		if err == nil {
			err = checkExists(q, b)
		}
		if err != nil {
			return err
		}
		return q.reply(http.StatusOK, map[string]any{"namespaces": []any{}, "next-page-token": nil})
	}
	var names []string
	for name, err := range h.store.Buckets(q.Ctx) {
		if err != nil {
			return err
		}
		if ns := h.store.Bucket(name).Namespace(); ns > p.after && !strings.Contains(ns, separator) && q.Caller.CheckAccess(serving.Read, name) == nil {
			names = append(names, ns)
		}
	}
	names = names[:min(len(names), p.size)]
	all := make([][]string, len(names))
	for i, name := range names {
		all[i] = []string{name}
	}
	return q.reply(http.StatusOK, map[string]any{"namespaces": all, "next-page-token": p.next(names)})
}

func (h *handler) createNamespace(q *request) error {
	var in struct {
		Namespace  []string          `json:"namespace"`
		Properties map[string]string `json:"properties"`
	}
	if err := q.parse(&in); err != nil {
		return err
	}
	if _, err := h.bucketOf(in.Namespace...); err != nil {
		return err
	}
	b, err := h.bucketFor(q, serving.Admin, in.Namespace)
	if err != nil {
		return err
	}
	if in.Properties == nil {
		in.Properties = map[string]string{}
	}
	answer := map[string]any{"namespace": in.Namespace, "properties": in.Properties}
	if err := q.willReply(http.StatusOK, answer); err != nil {
		return err
	}
	if err := b.Create(q.Ctx, toMetadata(in.Properties)); err != nil {
		return err
	}
	return q.reply(http.StatusOK, answer)
}

func toMetadata(props map[string]string) tables.Metadata {
	m := tables.Metadata{}
	for k, v := range props {
		m[k] = v
	}
	return m
}

// bucketProperties returns a bucket's metadata as properties. It encodes values other than strings as JSON.
func bucketProperties(q *request, b *tables.Bucket) (map[string]string, error) {
	m, err := b.Metadata(q.Ctx)
	props := map[string]string{}
	for k, v := range m {
		text, ok := v.(string)
		if !ok {
			b, err := json.Marshal(v)
			if err != nil {
				return nil, err
			}
			text = string(b)
		}
		props[k] = text
	}
	return props, err
}

func (h *handler) loadNamespace(q *request, b *tables.Bucket) error {
	props, err := bucketProperties(q, b)
	if err != nil {
		return err
	}
	return q.reply(http.StatusOK, map[string]any{"namespace": []string{b.Namespace()}, "properties": props})
}

func (h *handler) namespaceExists(q *request, _ *tables.Bucket) error {
	return q.replyEmpty(nil)
}

func (h *handler) dropNamespace(q *request, b *tables.Bucket) error {
	return q.replyEmpty(h.store.DeleteBucket(q.Ctx, b.Name(), false))
}

func (h *handler) namespaceProperties(q *request, b *tables.Bucket) error {
	var in struct {
		Removals []string          `json:"removals"`
		Updates  map[string]string `json:"updates"`
	}
	if err := q.parse(&in); err != nil {
		return err
	}
	current, err := bucketProperties(q, b)
	if err != nil {
		return err
	}
	updated, removed, missing := []string{}, []string{}, []string{} // never nil, because the answer needs arrays
	for k := range in.Updates {
		updated = append(updated, k)
		if slices.Contains(in.Removals, k) {
			return kinds.Unprocessable.Errorf("the property %q is in both updates and removals", k)
		}
	}
	for _, k := range in.Removals {
		if _, exists := current[k]; exists {
			removed = append(removed, k)
		} else {
			missing = append(missing, k)
		}
	}
	answer := map[string]any{"updated": updated, "removed": removed, "missing": missing}
	if err := q.willReply(http.StatusOK, answer); err != nil {
		return err
	}
	if err := b.ChangeMetadata(q.Ctx, tables.MetadataChange{Set: toMetadata(in.Updates), Remove: removed}); err != nil {
		return err
	}
	return q.reply(http.StatusOK, answer)
}
