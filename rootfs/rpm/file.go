package rpm

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// The form of a package's file (rpm's docs/manual/format.md): a lead of fixed length, a header of signatures, padded to 8 bytes, and
// the package's header; both headers begin with a magic that the database leaves out.
const (
	leadSize    = 96
	leadMagic   = "\xed\xab\xee\xdb"
	headerMagic = "\x8e\xad\xe8\x01"
)

// ReadFile reads what a package's file says of the package. Nothing is verified.
func ReadFile(name string) (Package, error) {
	file, err := os.Open(name)
	if err != nil {
		return Package{}, fmt.Errorf("reading a package: %w", err)
	}
	defer file.Close()
	p, err := readPackage(file)
	if err != nil {
		return Package{}, fmt.Errorf("reading the package %s: %w", name, err)
	}
	return p, nil
}

func readPackage(r io.Reader) (Package, error) {
	lead := make([]byte, leadSize)
	if _, err := io.ReadFull(r, lead); err != nil {
		return Package{}, err
	}
	if string(lead[:4]) != leadMagic {
		return Package{}, fmt.Errorf("it is no rpm package")
	}
	signatures, err := readHeader(r)
	if err != nil {
		return Package{}, err
	}
	if _, err := io.CopyN(io.Discard, r, int64(-len(signatures)&7)); err != nil {
		return Package{}, err
	}
	blob, err := readHeader(r)
	if err != nil {
		return Package{}, err
	}
	h, err := parseHeader(blob)
	if err != nil {
		return Package{}, err
	}
	return newPackage(h), nil
}

// readHeader reads a header and returns it as the database has it.
func readHeader(r io.Reader) ([]byte, error) {
	intro := make([]byte, 16) // magic, 4 bytes reserved, entries, bytes of data
	if _, err := io.ReadFull(r, intro); err != nil {
		return nil, err
	}
	entries, size := binary.BigEndian.Uint32(intro[8:]), binary.BigEndian.Uint32(intro[12:])
	if string(intro[:4]) != headerMagic || entries > maxEntries || size > maxData {
		return nil, errHeader
	}
	rest, err := io.ReadAll(io.LimitReader(r, int64(entries)*entrySize+int64(size)))
	if err != nil {
		return nil, err
	}
	if int64(len(rest)) != int64(entries)*entrySize+int64(size) {
		return nil, io.ErrUnexpectedEOF
	}
	return append(intro[8:], rest...), nil
}
