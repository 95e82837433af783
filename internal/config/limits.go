package config

import (
	"time"

	"github.com/dustin/go-humanize"
	"github.com/goccy/go-yaml/ast"

	"github.com/remora-backup/remora/internal/remora"
)

// limits reads what copies may ask of a source's database server.
func (r *reader) limits(to *remora.Limits) setter {
	return func(key string, n ast.Node) {
		r.mapping(key, n, fields{
			"bytes_per_second": r.bytesPerSecond(&to.BytesPerSecond),
			"threads_running":  r.number(&to.ThreadsRunning, 1, 100000),
			"replication_lag":  r.duration(&to.ReplicationLag, time.Second, 24*time.Hour),
		})
	}
}

// bytesPerSecond reads a number of bytes with its unit. The least is what the sessions of a copy move without looking as
// if they stood still.
func (r *reader) bytesPerSecond(to *int64) setter {
	return func(key string, n ast.Node) {
		var size uint64
		text, ok := n.(*ast.StringNode)
		if !ok || !between(&size, 100*humanize.KByte, 100*humanize.GByte, humanize.ParseBytes, text.Value) {
			r.wrong(key, n, "write a number of bytes from 100KB to 100GB, such as 50MB; MB are millions, MiB are 1024 × 1024")
		}
		*to = int64(size)
	}
}
