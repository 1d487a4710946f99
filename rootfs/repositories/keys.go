package repositories

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/imgbuild/imgbuild/description"
)

// maxKey bounds a file of keys, in bytes.
const maxKey = 16 << 20

// readKeys returns the keys of a repository as one binary keyring, or nil if it names none.
func (o *opener) readKeys(ctx context.Context, r Repository) ([]byte, description.Errors) {
	var ring []byte
	var wrong description.Errors
	for _, key := range r.Description.SigningKeys {
		packets, known := o.keys[key.URI]
		if !known {
			data, err := o.readKey(ctx, r, key.URI)
			if err == nil {
				packets, err = publicKeys(data)
			}
			if err != nil {
				wrong = append(wrong, key.Errorf("key", "give the file of an OpenPGP public key, armored or binary", "the signing key %s can't be read: %v", withoutSecrets(key.URI), err))
				continue
			}
			o.keys[key.URI] = packets
		}
		ring = append(ring, packets...)
	}
	return ring, wrong
}

// readNamedKeys returns the keys of a repository for apk.
func (o *opener) readNamedKeys(ctx context.Context, r Repository) ([]NamedKey, description.Errors) {
	var list []NamedKey
	var wrong description.Errors
	for _, key := range r.Description.SigningKeys {
		data, err := o.readKey(ctx, r, key.URI)
		if err == nil {
			if block, _ := pem.Decode(data); block == nil || block.Type != "PUBLIC KEY" {
				err = errors.New("it holds no public key in PEM form")
			}
		}
		name, _, _ := strings.Cut(key.URI, "?")
		name = name[strings.LastIndexAny(name, "/:")+1:]
		if err == nil && (name == "" || name[0] == '.' || strings.ContainsAny(name, " \t\x00")) {
			err = errors.New("its address doesn't end with the name of a file, by which apk knows a key")
		}
		if err != nil {
			wrong = append(wrong, key.Errorf("key", "give the file of a public key as apk has it in /etc/apk/keys", "the signing key %s can't be read: %v", withoutSecrets(key.URI), err))
			continue
		}
		list = append(list, NamedKey{name, data})
	}
	return list, wrong
}

// readKey reads a file or fetches an address.
func (o *opener) readKey(ctx context.Context, r Repository, uri string) ([]byte, error) {
	scheme, rest, found := strings.Cut(uri, ":")
	if strings.HasPrefix(uri, "/") || !found {
		return readFile(o.Files, uri, maxKey)
	}
	switch strings.ToLower(scheme) {
	case "file", "dir":
		path, err := localAddress(rest, uri)
		if err != nil {
			return nil, errors.New(err.text + "; " + err.hint)
		}
		return readFile(o.Files, path, maxKey)
	case "this":
		return readFile(o.Files, strings.TrimLeft(rest, "/"), maxKey)
	case "http", "https", "ftp":
		return o.fetchKey(ctx, r, uri)
	}
	return nil, fmt.Errorf("keys can't be fetched by %s", scheme)
}

// fetchKey fetches a key. It gets the credentials of a repository that is on the same server.
func (o *opener) fetchKey(ctx context.Context, r Repository, uri string) ([]byte, error) {
	a, fail := parseAddress(uri, PublicOpenBuildService)
	if fail != nil {
		return nil, errors.New(fail.text + "; " + fail.hint)
	}
	if a.user == "" && sameServer(a.uri, r.URI) {
		a.user, a.password = r.User, r.Password
	}
	return r.source.get(ctx, a, "keys", maxKey)
}

// sameServer reports whether two addresses have the same scheme, host and port, so that they may have the same credentials.
func sameServer(a, b string) bool {
	u, err := url.Parse(a)
	v, err2 := url.Parse(b)
	return err == nil && err2 == nil && u.Scheme == v.Scheme && u.Host == v.Host
}
