package flightclient

import (
	"context"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/wire"
)

// Settings returns the settings of a table.
func (c *Client) Settings(ctx context.Context, bucket, name string) (tables.Settings, error) {
	s, err := result[tables.Settings](ctx, c, wire.Settings, wire.Table{Bucket: bucket, Name: name})
	return s, c.fail(err)
}

// SetSettings is Bucket.SetSettings.
func (c *Client) SetSettings(ctx context.Context, bucket, name string, s tables.Settings) error {
	_, err := change[struct{}](ctx, c, wire.SetSettings, wire.TableSettings{Bucket: bucket, Name: name, Settings: s})
	return err
}
