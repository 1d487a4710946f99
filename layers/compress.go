package layers

import (
	"fmt"
	"strconv"
	"strings"
)

// Compression says how a layer's tar stream is stored in its blob. The zero value is none.
type Compression struct {
	Algorithm Algorithm
	Level     int // zstd 1 to 22, gzip 1 to 9; 0 is the algorithm's default
}

// Default levels, chosen by measuring Debian root trees: zstd's has the best size for its time, gzip's is what gzip(1) uses.
const (
	defaultZstdLevel = 3
	defaultGzipLevel = 6
)

// DefaultCompression is zstd at its default level.
func DefaultCompression() Compression { return Compression{Algorithm: Zstd, Level: defaultZstdLevel} }

// ParseCompression reads what users write for --compression: "zstd", "gzip" or "none", the first two with ":LEVEL" if they like.
// An empty text is the default. The library that compresses zstd has four levels; the numbers 1, 3, 6 and 10 begin them.
func ParseCompression(s string) (Compression, error) {
	if s == "" {
		return DefaultCompression(), nil
	}
	name, level, hasLevel := strings.Cut(s, ":")
	var c Compression
	switch name {
	case "zstd":
		c.Algorithm = Zstd
	case "gzip":
		c.Algorithm = Gzip
	case "none":
	default:
		return c, fmt.Errorf("compression %q is not known: use zstd, gzip or none", name)
	}
	if hasLevel {
		n, err := strconv.Atoi(level)
		if err != nil || n < 1 {
			return Compression{}, fmt.Errorf("reading compression %q: the level after the colon must be a number from 1", s)
		}
		c.Level = n
	}
	c = c.withDefaults()
	return c, c.check()
}

// String gives c in the form that [ParseCompression] reads.
func (c Compression) String() string {
	c = c.withDefaults()
	if c.Level == 0 {
		return c.Algorithm.String()
	}
	return fmt.Sprintf("%s:%d", c.Algorithm, c.Level)
}

// MediaType returns the media type of a layer so compressed (OCI image specification, layer.md).
func (c Compression) MediaType() string {
	const tar = "application/vnd.oci.image.layer.v1.tar"
	switch c.Algorithm {
	case Zstd:
		return tar + "+zstd"
	case Gzip:
		return tar + "+gzip"
	default:
		return tar
	}
}

// pieceSize is how many bytes of tar go into one independent piece of the blob. A larger piece compresses a little better and a
// smaller one makes reading a single file cheaper. Gzip finds matches only 32 KiB back and loses nothing by small pieces.
func (c Compression) pieceSize() int {
	if c.Algorithm == Gzip {
		return 1 << 20
	}
	return 4 << 20
}

func (c Compression) withDefaults() Compression {
	if c.Level == 0 {
		switch c.Algorithm {
		case Zstd:
			c.Level = defaultZstdLevel
		case Gzip:
			c.Level = defaultGzipLevel
		}
	}
	return c
}

func (c Compression) check() error {
	limit := 0
	switch c.Algorithm {
	case Zstd:
		limit = 22
	case Gzip:
		limit = 9
	case None:
		if c.Level != 0 {
			return fmt.Errorf("compression none has no level %d", c.Level)
		}
	default:
		return fmt.Errorf("compression algorithm %d is not known", c.Algorithm)
	}
	if c.Level < 0 || c.Level > limit {
		return fmt.Errorf("compression level %d is out of range: %s has levels 1 to %d", c.Level, c.Algorithm, limit)
	}
	return nil
}
