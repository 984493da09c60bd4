package rest

import (
	"maps"
	"net/http"
	"strings"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
)

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
