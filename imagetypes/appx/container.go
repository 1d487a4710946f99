package appx

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// A package is a zip archive by the Open Packaging Conventions (ECMA-376, part 2) with a map of its blocks: Microsoft's documentation of the package
// block map schema, http://schemas.microsoft.com/appx/2010/blockmap.

// blockSize is how many bytes of a file have a digest of their own.
const blockSize = 64 << 10

// The parts that describe the package itself, and are not in the map.
const (
	blockMapName     = "AppxBlockMap.xml"
	contentTypesName = "[Content_Types].xml"
	signatureName    = "AppxSignature.p7x"
	manifestName     = "AppxManifest.xml"
)

// localHeader is the size in bytes of a file's header in a zip archive, without the name (APPNOTE.TXT, section 4.3.7).
const localHeader = 30

type blockMap struct {
	XMLName    xml.Name  `xml:"http://schemas.microsoft.com/appx/2010/blockmap BlockMap"`
	HashMethod string    `xml:"HashMethod,attr"`
	Files      []mapFile `xml:"File"`
}

type mapFile struct {
	Name    string  `xml:"Name,attr"`    // with backslashes
	Size    int64   `xml:"Size,attr"`    // bytes, uncompressed
	LfhSize int     `xml:"LfhSize,attr"` // bytes of the header in the archive
	Blocks  []block `xml:"Block"`
}

type block struct {
	Hash string `xml:"Hash,attr"`           // SHA-256 of the uncompressed bytes, in base64
	Size int    `xml:"Size,attr,omitempty"` // bytes in the archive; none where they are not compressed
}

// packager writes a package.
type packager struct {
	zip     *zip.Writer
	at      time.Time
	scratch string
	blocks  blockMap
	types   contentTypes
}

func newPackager(w io.Writer, at time.Time, scratch string) *packager {
	return &packager{
		zip: zip.NewWriter(w), at: at.UTC(), scratch: scratch,
		blocks: blockMap{HashMethod: "http://www.w3.org/2001/04/xmlenc#sha256"}, types: newContentTypes(),
	}
}

// add puts a file into the package. name has slashes. What is compressed already is stored as it is.
func (p *packager) add(name string, content io.ReadSeeker) error {
	p.types.add(name)
	file, err := p.write(name, content, isCompressed(name))
	if err != nil {
		return fmt.Errorf("packing %s: %w", name, err)
	}
	p.blocks.Files = append(p.blocks.Files, file)
	return nil
}

// isCompressed reports whether compressing a file once more gains nothing.
func isCompressed(name string) bool {
	return slices.Contains([]string{".gz", ".png", ".jpg", ".jpeg", ".zip", ".xz", ".zst"}, strings.ToLower(path.Ext(name)))
}

// close writes the parts that describe the package.
func (p *packager) close() error {
	text, err := xml.Marshal(p.blocks)
	if err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		text []byte
	}{{blockMapName, text}, {contentTypesName, p.types.text()}} {
		data := append([]byte(`<?xml version="1.0" encoding="UTF-8" standalone="no"?>`+"\n"), part.text...)
		if _, err := p.write(part.name, bytes.NewReader(data), false); err != nil {
			return fmt.Errorf("packing %s: %w", part.name, err)
		}
	}
	return p.zip.Close()
}

// write writes one file of the archive.
func (p *packager) write(name string, content io.ReadSeeker, stored bool) (mapFile, error) {
	spool, err := os.CreateTemp(p.scratch, "part-")
	if err != nil {
		return mapFile{}, err
	}
	defer os.Remove(spool.Name())
	defer spool.Close()
	header := &zip.FileHeader{Name: partName(name), Method: zip.Deflate}
	if stored {
		header.Method = zip.Store
	}
	header.ModifiedDate, header.ModifiedTime = dosTime(p.at)
	file := mapFile{Name: strings.ReplaceAll(name, "/", `\`), LfhSize: localHeader + len(header.Name)}
	c := compressor{stored: stored, out: spool}
	if err := c.run(content); err != nil {
		return mapFile{}, err
	}
	if c.size > math.MaxUint32-1 || c.packed > math.MaxUint32-1 {
		return mapFile{}, fmt.Errorf("it has %d bytes, and a package holds no file of 4 GiB or more; make the root tree smaller", c.size)
	}
	file.Size, file.Blocks = c.size, c.blocks
	header.CRC32, header.UncompressedSize64, header.CompressedSize64 = c.crc, uint64(c.size), uint64(c.packed)
	w, err := p.zip.CreateRaw(header)
	if err != nil {
		return mapFile{}, err
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return mapFile{}, err
	}
	_, err = io.Copy(w, spool)
	return file, err
}

// compressor makes the blocks of one file. Each is compressed by itself, and together they are one deflate stream.
type compressor struct {
	stored       bool
	out          io.Writer
	blocks       []block
	size, packed int64
	crc          uint32
}

func (c *compressor) run(content io.Reader) error {
	next := make([]byte, blockSize)
	data := make([]byte, blockSize)
	n, err := readBlock(content, data)
	for ; n > 0; data, next = next, data {
		var following int
		if following, err = readBlock(content, next); err != nil {
			return err
		}
		if err := c.block(data[:n], following == 0); err != nil {
			return err
		}
		n = following
	}
	if err == nil && c.size == 0 && !c.stored {
		return c.compress(nil, true) // a deflate stream has an end, also with nothing in it
	}
	return err
}

// readBlock reads a whole block, or what is left.
func readBlock(r io.Reader, p []byte) (int, error) {
	n, err := io.ReadFull(r, p)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return n, err
}

func (c *compressor) block(data []byte, last bool) error {
	sum := sha256.Sum256(data)
	before := c.packed
	if err := c.compress(data, last); err != nil {
		return err
	}
	b := block{Hash: base64.StdEncoding.EncodeToString(sum[:])}
	if !c.stored {
		b.Size = int(c.packed - before)
	}
	c.blocks = append(c.blocks, b)
	c.size += int64(len(data))
	c.crc = crc32.Update(c.crc, crc32.IEEETable, data)
	return nil
}

func (c *compressor) compress(data []byte, last bool) error {
	if c.stored {
		n, err := c.out.Write(data)
		c.packed += int64(n)
		return err
	}
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	finish := w.Flush // ends at a whole byte, and refers to nothing before
	if last {
		finish = w.Close
	}
	if err := finish(); err != nil {
		return err
	}
	n, err := c.out.Write(packed.Bytes())
	c.packed += int64(n)
	return err
}

// partName is a file's name as the conventions want it: escaped, but for the one that has brackets by definition.
func partName(name string) string {
	if name == contentTypesName {
		return name
	}
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	return strings.Join(parts, "/")
}

// dosTime is a time as zip archives have it: from 1980 on, in steps of two seconds (APPNOTE.TXT, section 4.4.6).
func dosTime(t time.Time) (date, clock uint16) {
	first := time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	if t.Before(first) {
		t = first
	}
	return uint16(t.Day() + int(t.Month())<<5 + (t.Year()-1980)<<9), uint16(t.Second()/2 + t.Minute()<<5 + t.Hour()<<11)
}

// contentTypes says of each part what it is, by its extension or by its name.
type contentTypes struct {
	extensions map[string]string
	names      map[string]string
}

func newContentTypes() contentTypes {
	return contentTypes{extensions: map[string]string{"xml": "text/xml"}, names: map[string]string{
		"/" + blockMapName: "application/vnd.ms-appx.blockmap+xml", "/" + manifestName: "application/vnd.ms-appx.manifest+xml",
	}}
}

// add notes a part.
func (c contentTypes) add(name string) {
	extension := strings.TrimPrefix(strings.ToLower(path.Ext(name)), ".")
	if extension == "" {
		c.names["/"+partName(name)] = "application/octet-stream"
		return
	}
	if _, known := c.extensions[extension]; known {
		return
	}
	kinds := map[string]string{
		"exe": "application/x-msdownload", "dll": "application/x-msdownload", "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gz": "application/gzip", "ico": "image/x-icon",
		"txt": "text/plain", "pri": "application/octet-stream",
	}
	kind := kinds[extension]
	if kind == "" {
		kind = "application/octet-stream"
	}
	c.extensions[extension] = kind
}

func (c contentTypes) text() []byte {
	var b bytes.Buffer
	b.WriteString(`<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">`)
	write := func(format string, list map[string]string) {
		names := make([]string, 0, len(list))
		for name := range list {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			fmt.Fprintf(&b, format, escape(name), escape(list[name]))
		}
	}
	write(`<Default Extension="%s" ContentType="%s"/>`, c.extensions)
	write(`<Override PartName="%s" ContentType="%s"/>`, c.names)
	b.WriteString("</Types>")
	return b.Bytes()
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a strings.Builder takes everything
	return b.String()
}
