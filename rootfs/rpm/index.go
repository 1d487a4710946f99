package rpm

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Available is a package that a repository offers, as its list "primary" tells (createrepo's repomd schemas).
type Available struct {
	Name, Arch              string
	Epoch, Version, Release string // "" is no epoch
	ChecksumType, Checksum  string // such as sha256, and hexadecimal
	Location                string // of the file, relative to the repository
	Download, Installed     int64  // bytes
}

// EVR is [EPOCH:]VERSION-RELEASE.
func (a Available) EVR() string {
	return Package{Epoch: a.Epoch, Version: a.Version, Release: a.Release}.EVR()
}

// ReadIndex calls each with every package that the index of a repository (rpm-md) lists. dir is the directory on this machine that has the
// directory repodata. The error is fs.ErrNotExist where there is none.
func ReadIndex(dir string, each func(Available)) error {
	data, err := os.ReadFile(filepath.Join(dir, "repodata/repomd.xml"))
	if err != nil {
		return err
	}
	var index struct {
		Data []struct {
			Type     string `xml:"type,attr"`
			Location struct {
				Href string `xml:"href,attr"`
			} `xml:"location"`
		} `xml:"data"`
	}
	if err := xml.Unmarshal(data, &index); err != nil {
		return fmt.Errorf("reading repomd.xml: %w", err)
	}
	for _, d := range index.Data {
		if d.Type != "primary" {
			continue
		}
		file, err := os.Open(filepath.Join(dir, "repodata", filepath.Base(d.Location.Href)))
		if err != nil {
			return err
		}
		defer file.Close()
		if err := readPrimary(file, each); err != nil {
			return fmt.Errorf("reading %s: %w", filepath.Base(d.Location.Href), err)
		}
		return nil
	}
	return errors.New("repomd.xml names no list of packages")
}

// readPrimary reads the list, compressed or not.
func readPrimary(r io.Reader, each func(Available)) error {
	plain, err := decompress(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	decoder := xml.NewDecoder(plain)
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "package" {
			continue
		}
		var p struct {
			Name    string `xml:"name"`
			Arch    string `xml:"arch"`
			Version struct {
				Epoch string `xml:"epoch,attr"`
				Ver   string `xml:"ver,attr"`
				Rel   string `xml:"rel,attr"`
			} `xml:"version"`
			Checksum struct {
				Type  string `xml:"type,attr"`
				Value string `xml:",chardata"`
			} `xml:"checksum"`
			Size struct {
				Package   int64 `xml:"package,attr"`
				Installed int64 `xml:"installed,attr"`
			} `xml:"size"`
			Location struct {
				Href string `xml:"href,attr"`
			} `xml:"location"`
		}
		if err := decoder.DecodeElement(&p, &start); err != nil {
			return err
		}
		a := Available{
			Name: p.Name, Arch: p.Arch, Epoch: p.Version.Epoch, Version: p.Version.Ver, Release: p.Version.Rel, ChecksumType: p.Checksum.Type, Checksum: p.Checksum.Value,
			Location: p.Location.Href, Download: p.Size.Package, Installed: p.Size.Installed,
		}
		if a.Epoch == "0" {
			a.Epoch = ""
		}
		each(a)
	}
}

// decompress recognizes a compression by its magic.
func decompress(r io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(r, 1<<16)
	magic, err := in.Peek(6)
	if err != nil {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(in)
	case bytes.HasPrefix(magic, []byte("\xfd7zXZ\x00")):
		plain, err := xz.NewReader(in)
		return io.NopCloser(plain), err
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		plain, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return plain.IOReadCloser(), nil
	case bytes.HasPrefix(magic, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(in)), nil
	case bytes.HasPrefix(magic, []byte("<")):
		return io.NopCloser(in), nil
	}
	return nil, fmt.Errorf("its compression is not known (magic %x)", magic)
}
