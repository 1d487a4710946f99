package repositories

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/rootfs/files"
)

// zyppCredentials is where libzypp looks for files with credentials.
const zyppCredentials = "/etc/zypp/credentials.d"

// maxCredentials bounds a file of credentials, in bytes.
const maxCredentials = 64 << 10

// credentials finds the user name and password of a repository: its attributes count more than what the address has, and that more than a file.
func (o *opener) credentials(r *Repository, a address) *description.Error {
	d := r.Description
	r.User, r.Password = a.user, a.password
	switch {
	case d.Username != "" || d.Password != "":
		r.User, r.Password = d.Username, d.Password
	case r.User == "" && a.credentials != "":
		var err error
		if r.User, r.Password, err = o.credentialsFile(a.credentials); err != nil {
			return r.Errorf("give username and password to the repository, or write the lines username=NAME and password=SECRET into "+filepath.Join(zyppCredentials, filepath.Base(a.credentials)),
				"the credentials file %s of %s can't be read: %v", a.credentials, r.shown(), err)
		}
	}
	if strings.ContainsFunc(r.User+r.Password, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return r.Errorf("", "the user name or the password of %s has a control character in it", r.shown())
	}
	return nil
}

// credentialsFile reads a file of credentials: one with an absolute path, one beside the description, or one of libzypp's.
func (o *opener) credentialsFile(name string) (user, password string, err error) {
	places := []string{name, filepath.Join(zyppCredentials, name)}
	if filepath.IsAbs(name) {
		places = places[:1]
	} else if !filepath.IsLocal(name) {
		return "", "", errors.New("its name leads out of the directory")
	}
	for _, place := range places {
		data, err := readFile(o.Files, place, maxCredentials)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", "", err
		}
		return parseCredentials(data)
	}
	return "", "", fmt.Errorf("it is not there (%s)", strings.Join(places, ", "))
}

// parseCredentials reads the lines "username = NAME" and "password = SECRET".
func parseCredentials(data []byte) (user, password string, err error) {
	for scan := bufio.NewScanner(bytes.NewReader(data)); scan.Scan(); {
		name, value, found := strings.Cut(scan.Text(), "=")
		if name = strings.TrimSpace(name); !found || strings.HasPrefix(name, "#") || strings.HasPrefix(name, ";") {
			continue
		}
		switch value = strings.TrimSpace(value); name {
		case "username":
			user = value
		case "password":
			password = value
		}
	}
	if user == "" {
		return "", "", errors.New("it has no line username=NAME")
	}
	return user, password, nil
}

// readFile reads a file of the description or of this machine that has at most limit bytes.
func readFile(source files.Source, name string, limit int64) ([]byte, error) {
	if !filepath.IsAbs(name) && source.Dir == "" && source.FS == nil {
		return nil, fs.ErrNotExist
	}
	file, err := source.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readBounded(file, limit)
}
