package appx

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/internal/command"
)

// signer is the program that signs packages for Windows, from version 2.6 on.
const signer = "osslsigncode"

// checkSigning refuses to sign what could not be installed: Windows takes a package only from the publisher that its manifest names.
func checkSigning(ctx context.Context, r *image.Request, m *metadata) error {
	if r.Signing == nil {
		return nil
	}
	out, err := command.Output(ctx, command.Cmd{Name: signer, Args: []string{"--version"}})
	if err != nil {
		return err
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(out), signer+" %d.%d", &major, &minor); err != nil {
		return fmt.Errorf("asking %s for its version: it said %q", signer, firstLine(out))
	}
	if major < 2 || major == 2 && minor < 6 {
		return fmt.Errorf("signing: %s %d.%d knows no packages for Windows; install 2.6 or later, which Debian 12 has in its backports", signer, major, minor)
	}
	certificates, err := readCertificates(ctx, r.Signing)
	if err != nil {
		return err
	}
	return checkPublisher(r.Description, m, certificates[0])
}

func firstLine(text []byte) string {
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// readCertificates returns the certificates to sign with, the signer's own first.
func readCertificates(ctx context.Context, s *image.Signing) ([]*x509.Certificate, error) {
	var text []byte
	var err error
	file := s.Certificates
	if s.PKCS12 != "" {
		file = s.PKCS12
		// The signer's own comes first; the others are its issuers.
		for _, which := range []string{"-clcerts", "-cacerts"} {
			var part bytes.Buffer
			cmd := command.Cmd{Name: "openssl", Args: []string{"pkcs12", "-in", file, "-passin", "stdin", "-nokeys", which}, Stdin: bytes.NewReader(s.Password), Stdout: &part}
			if err = command.Run(ctx, cmd); err != nil {
				return nil, fmt.Errorf("reading the certificate in %s: %w", file, err)
			}
			text = append(text, part.Bytes()...)
		}
	} else if text, err = os.ReadFile(file); err != nil {
		return nil, fmt.Errorf("reading the certificate to sign with: %w", err)
	}
	var list []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading the certificate in %s: %w", file, err)
		}
		list = append(list, certificate)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("reading the certificate to sign with: %s holds none in PEM", file)
	}
	return list, nil
}

// checkPublisher compares the publisher of the manifest with the subject of a certificate.
func checkPublisher(d *description.Image, m *metadata, certificate *x509.Certificate) error {
	publisher, subject := m.publisher, nameOf(certificate)
	if want, err := parseName(publisher); err == nil && slices.Equal(want, subject) {
		return nil
	}
	hint := fmt.Sprintf("set created_by of <history> to %s, or sign with a certificate of the publisher", writeName(subject))
	if c := d.Type.Container; c != nil && c.History.CreatedBy != "" {
		return c.History.Errorf("created_by", hint, "the package's publisher is %q and the certificate's subject %q: Windows would refuse the package", publisher, writeName(subject))
	}
	return d.Type.Errorf("metadata_path", hint, "the manifest's publisher is %q and the certificate's subject %q: Windows would refuse the package", publisher, writeName(subject))
}

// attribute is one part of a distinguished name.
type attribute struct{ kind, value string }

// kinds are the names of attributes in a manifest's publisher, by their object identifiers (Microsoft's documentation of CertNameToStr).
func kinds() map[string]string {
	return map[string]string{
		"2.5.4.3": "CN", "2.5.4.4": "SN", "2.5.4.5": "SERIALNUMBER", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "S", "2.5.4.9": "STREET", "2.5.4.10": "O", "2.5.4.11": "OU",
		"2.5.4.12": "T", "2.5.4.17": "POSTALCODE", "2.5.4.42": "G", "1.2.840.113549.1.9.1": "E", "0.9.2342.19200300.100.1.25": "DC",
	}
}

// nameOf is a certificate's subject, its most special part first.
func nameOf(c *x509.Certificate) []attribute {
	var name []attribute
	for _, one := range slices.Backward(c.Subject.Names) {
		kind := kinds()[one.Type.String()]
		if kind == "" {
			kind = "OID." + one.Type.String()
		}
		name = append(name, attribute{kind, fmt.Sprint(one.Value)})
	}
	return name
}

// namePart is one attribute of a name as it is written: CN=Example, O="Example, Inc", with quotation marks doubled within such marks.
func namePart() *regexp.Regexp {
	return regexp.MustCompile(`^\s*([A-Za-z][A-Za-z0-9.]*|[0-9.]+)\s*=\s*(?:"((?:[^"]|"")*)"|([^,;+"]*?))\s*(?:[,;+]|$)`)
}

// parseName reads a name as a manifest writes it.
func parseName(text string) ([]attribute, error) {
	var name []attribute
	for rest := text; strings.TrimSpace(rest) != ""; {
		found := namePart().FindStringSubmatch(rest)
		if found == nil {
			return nil, fmt.Errorf("%q is no distinguished name", text)
		}
		rest = rest[len(found[0]):]
		kind := strings.ToUpper(found[1])
		if known := kinds()[strings.TrimPrefix(kind, "OID.")]; known != "" {
			kind = known
		} else if kind == "ST" {
			kind = "S"
		}
		name = append(name, attribute{kind, strings.ReplaceAll(found[2], `""`, `"`) + found[3]})
	}
	return name, nil
}

// writeName writes a name as manifests have it.
func writeName(name []attribute) string {
	var parts []string
	for _, a := range name {
		value := a.value
		if strings.ContainsAny(value, ",;+=\"<>#\n") || value != strings.TrimSpace(value) {
			value = `"` + strings.ReplaceAll(value, `"`, `""`) + `"`
		}
		parts = append(parts, a.kind+"="+value)
	}
	return strings.Join(parts, ", ")
}

// sign signs a package, which it replaces. The password reaches the program by its standard input: nobody else sees it.
func sign(ctx context.Context, r *image.Request, file, scratch string) error {
	s := r.Signing
	args := []string{"sign", "-h", "sha256"}
	if s.PKCS12 != "" {
		args = append(args, "-pkcs12", s.PKCS12)
	} else {
		args = append(args, "-certs", s.Certificates, "-key", s.Key)
	}
	cmd := command.Cmd{Name: signer, Redact: []string{string(s.Password)}}
	if s.Password != nil {
		args = append(args, "-readpass", "/dev/stdin")
		cmd.Stdin = bytes.NewReader(s.Password)
	}
	if r.Repro.Fixed {
		args = append(args, "-time", strconv.FormatInt(r.Repro.Epoch.Unix(), 10))
	}
	signed := filepath.Join(scratch, "signed")
	cmd.Args = append(args, "-in", file, "-out", signed)
	if err := command.Run(ctx, cmd); err != nil {
		return fmt.Errorf("signing: %w", err)
	}
	if err := verify(ctx, r, signed, scratch); err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if err := os.Chmod(signed, info.Mode().Perm()); err != nil {
		return err
	}
	return os.Rename(signed, file)
}

// verify checks a signed package against the certificates that it was signed with.
func verify(ctx context.Context, r *image.Request, file, scratch string) error {
	certificates, err := readCertificates(ctx, r.Signing)
	if err != nil {
		return err
	}
	var bundle bytes.Buffer
	for _, c := range certificates {
		if err := pem.Encode(&bundle, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			return err
		}
	}
	trusted := filepath.Join(scratch, "certificates.pem")
	if err := os.WriteFile(trusted, bundle.Bytes(), 0o600); err != nil {
		return err
	}
	var out bytes.Buffer
	err = command.Run(ctx, command.Cmd{Name: signer, Args: []string{"verify", "-CAfile", trusted, "-in", file}, Stdout: io.Writer(&out)})
	var failed *command.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &failed) || !intact(out.Bytes()):
		return fmt.Errorf("verifying the signature: %w", err)
	}
	r.Log.Warn("the signature could be verified only up to its certificate, whose issuer is not among the certificates that were given", "subject", writeName(nameOf(certificates[0])))
	return nil
}

// intact reports whether the program has found the digests of all parts of the package to be those that are signed.
func intact(out []byte) bool {
	current := regexp.MustCompile(`Current message digest\s*: (\S+)`).FindAllSubmatch(out, -1)
	calculated := regexp.MustCompile(`Calculated message digest\s*: (\S+)`).FindAllSubmatch(out, -1)
	return len(current) >= 4 && slices.EqualFunc(current, calculated, func(a, b [][]byte) bool { return bytes.Equal(a[1], b[1]) })
}
