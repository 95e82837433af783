package repository

import (
	"bytes"
	"encoding/binary"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/kopia/kopia/repo/compression"
)

// inOnePiece has kopia compress each block in one piece: it feeds its encoder bit by bit, which costs a fifth more. What is
// written is the same format, under the same name, for any kopia to read.
var inOnePiece = sync.OnceFunc(func() {
	for name, level := range map[compression.Name]zstd.EncoderLevel{
		compressor: zstd.SpeedFastest, compressors["default"]: zstd.SpeedDefault, compressors["better"]: zstd.SpeedBetterCompression,
	} {
		encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level))
		if err != nil {
			return // kopia's own does it
		}
		whole := &wholeBlocks{Compressor: compression.ByName[name], encoder: encoder}
		compression.ByName[name], compression.ByHeaderID[whole.HeaderID()] = whole, whole
	}
})

// wholeBlocks compresses a block that it has read as a whole. It is safe for concurrent use.
type wholeBlocks struct {
	compression.Compressor
	encoder *zstd.Encoder
	spare   sync.Pool // of *[2]bytes.Buffer
}

func (c *wholeBlocks) Compress(to io.Writer, from io.Reader) error {
	buffers, ok := c.spare.Get().(*[2]bytes.Buffer)
	if !ok {
		buffers = &[2]bytes.Buffer{}
	}
	defer c.spare.Put(buffers)
	in, out := &buffers[0], &buffers[1]
	in.Reset()
	out.Reset()
	if _, err := in.ReadFrom(from); err != nil {
		return err
	}
	out.Grow(in.Len() + 1<<10)
	packed := binary.BigEndian.AppendUint32(out.AvailableBuffer(), uint32(c.HeaderID()))
	_, err := to.Write(c.encoder.EncodeAll(in.Bytes(), packed))
	return err
}
