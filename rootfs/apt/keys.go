package apt

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/files"
)

// maxKey bounds a file of keys, in bytes.
const maxKey = 16 << 20

// keyTimeout is how long fetching a key may take.
const keyTimeout = time.Minute

// readKeys returns the keys of a repository as one binary keyring, or nil if it names none.
func readKeys(ctx context.Context, repo description.Repository, source files.Source) ([]byte, error) {
	var ring []byte
	for _, key := range repo.SigningKeys {
		data, err := readKey(ctx, key.URI, source)
		if err == nil {
			data, err = dearmor(data)
		}
		if err != nil {
			return nil, key.Errorf("key", "give the file of an OpenPGP public key, armored or binary", "the signing key %s can't be read: %v", key.URI, err)
		}
		ring = append(ring, data...)
	}
	return ring, nil
}

// readKey reads a file or fetches an address.
func readKey(ctx context.Context, uri string, source files.Source) ([]byte, error) {
	if strings.HasPrefix(uri, "/") {
		return readFile(source, uri)
	}
	u, err := url.Parse(uri)
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "file":
		if u.Opaque != "" {
			return readFile(source, u.Opaque)
		}
		return readFile(source, u.Path)
	case "", "this":
		return readFile(source, strings.TrimPrefix(u.Host+u.Path, "/"))
	case "http", "https":
		return fetch(ctx, uri)
	}
	return nil, fmt.Errorf("keys can't be fetched by %s", u.Scheme)
}

func readFile(source files.Source, name string) ([]byte, error) {
	file, err := source.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readBounded(file)
}

func readBounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxKey+1))
	if err == nil && len(data) > maxKey {
		err = fmt.Errorf("it has more than %d bytes", maxKey)
	}
	return data, err
}

func fetch(ctx context.Context, uri string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answered %s", response.Status)
	}
	return readBounded(response.Body)
}

// dearmor turns ASCII armor (RFC 9580, section 6.2) into the packets that it holds, several blocks into one keyring. Binary keys stay as they are.
func dearmor(data []byte) ([]byte, error) {
	const begin, end = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"
	if !bytes.Contains(data, []byte(begin)) {
		// The first byte of a packet has its highest bit set (section 4.2).
		if len(data) == 0 || data[0]&0x80 == 0 {
			return nil, errors.New("it holds no OpenPGP public key")
		}
		return data, nil
	}
	var ring []byte
	text := strings.ReplaceAll(string(data), "\r\n", "\n")
	for {
		_, rest, found := strings.Cut(text, begin+"\n")
		if !found {
			return ring, nil
		}
		block, after, found := strings.Cut(rest, "\n"+end)
		if !found {
			return nil, errors.New("its armor has no end")
		}
		text = after
		// Headers end at an empty line; a line that begins with = is a check sum.
		_, body, found := strings.Cut("\n"+block, "\n\n")
		if !found {
			return nil, errors.New("its armor has no empty line after the headers")
		}
		var encoded strings.Builder
		for line := range strings.Lines(body) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "=") {
				encoded.WriteString(line)
			}
		}
		packets, err := base64.StdEncoding.DecodeString(encoded.String())
		if err != nil {
			return nil, fmt.Errorf("its armor is damaged: %w", err)
		}
		ring = append(ring, packets...)
	}
}

// systemKeyring returns the keyring of the tree's distribution where apt does not use it by itself, as from Debian 13 on, or "".
func systemKeyring(tree *layers.Tree) string {
	if _, dir, err := tree.Resolve("etc/apt/trusted.gpg.d"); err == nil && dir.IsDir() && dir.Len() > 0 {
		return ""
	}
	if _, node, err := tree.Resolve("etc/apt/trusted.gpg"); err == nil && node.Size > 0 {
		return ""
	}
	for _, name := range []string{"debian-archive-keyring.pgp", "debian-archive-keyring.gpg", "ubuntu-archive-keyring.gpg"} {
		path := "usr/share/keyrings/" + name
		if _, node, err := tree.Resolve(path); err == nil && node.IsRegular() {
			return path
		}
	}
	return ""
}
