package remote

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// certDirs are the certs.d directories, the user's first: containers-certs.d(5) and Docker's.
func (c *Client) certDirs() []string {
	if c.opts.CertDirs != nil {
		return c.opts.CertDirs
	}
	var dirs []string
	if config := c.opts.Getenv("XDG_CONFIG_HOME"); config != "" {
		dirs = append(dirs, filepath.Join(config, "containers", "certs.d"))
	}
	if home := c.opts.Getenv("HOME"); home != "" {
		dirs = append(dirs, filepath.Join(home, ".config", "containers", "certs.d"))
	}
	return append(dirs, "/etc/containers/certs.d", "/etc/docker/certs.d")
}

// tlsConfig trusts the system's authorities and those of DIR/HOST[:PORT]/*.crt, and shows the certificates of *.cert with the
// *.key of the same name.
func tlsConfig(host string, dirs []string, insecure bool) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure}
	for _, dir := range dirs {
		dir = filepath.Join(dir, host)
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the certificates of %s: %w", host, err)
		}
		for _, e := range entries {
			if err := addCert(conf, filepath.Join(dir, e.Name())); err != nil {
				return nil, fmt.Errorf("reading the certificates of %s: %w", host, err)
			}
		}
	}
	return conf, nil
}

func addCert(conf *tls.Config, path string) error {
	switch filepath.Ext(path) {
	case ".crt":
		pem, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if conf.RootCAs == nil {
			// Without the system's authorities the registry's own will do.
			if conf.RootCAs, err = x509.SystemCertPool(); err != nil {
				conf.RootCAs = x509.NewCertPool()
			}
		}
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s holds no certificate in PEM form", path)
		}
	case ".cert":
		key := strings.TrimSuffix(path, ".cert") + ".key"
		if _, err := os.Stat(key); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s has no key %s beside it; an authority's certificate is named *.crt", path, filepath.Base(key))
		}
		pair, err := tls.LoadX509KeyPair(path, key)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		conf.Certificates = append(conf.Certificates, pair)
	case ".key":
		cert := strings.TrimSuffix(path, ".key") + ".cert"
		if _, err := os.Stat(cert); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s has no certificate %s beside it", path, filepath.Base(cert))
		}
	}
	return nil
}
