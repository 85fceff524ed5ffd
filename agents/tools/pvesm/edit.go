package pvesm

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"etcpve/agents/lock"
	"etcpve/agents/storage"
	"etcpve/agents/tools/cli"
	"etcpve/cfs/format/definitions"
	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/section"
)

func (p Place) add(ctx context.Context, c *cli.Call) error {
	kind, id := c.Value("type"), c.Value("storage")
	return p.edit(ctx, c, func(d *section.Document) error {
		if _, exists := d.Section(id); exists {
			return fmt.Errorf("storage ID '%s' already defined", id)
		}
		if err := d.Add(kind, id); err != nil {
			return err
		}
		// Types that are mounted have a path of their own choice.
		if path := (&storage.Config{ID: id, Type: kind}).Path(); path != "" && !c.Has("path") {
			if err := d.Set(id, "path", path); err != nil {
				return err
			}
		}
		return p.put(d, kind, c)
	})
}

func (p Place) set(ctx context.Context, c *cli.Call) error {
	id := c.Value("storage")
	return p.edit(ctx, c, func(d *section.Document) error {
		s, exists := d.Section(id)
		if !exists {
			return fmt.Errorf("storage '%s' does not exist", id)
		}
		kind := definitions.Storage.Types[s.Type]
		if kind == nil {
			return fmt.Errorf("storage '%s': type '%s' is not known here", id, s.Type)
		}
		for _, key := range c.Given {
			if option, takes := kind.Options[key]; takes && bool(option.Fixed) {
				return fmt.Errorf("can't change value of fixed parameter '%s'", key)
			}
		}
		for _, key := range schema.SplitList(c.Value("delete")) {
			switch option, takes := kind.Options[key]; {
			case !takes:
				return fmt.Errorf("no such option '%s'", key)
			case !bool(option.Optional):
				return fmt.Errorf("unable to delete required option '%s'", key)
			case bool(option.Fixed):
				return fmt.Errorf("unable to delete fixed option '%s'", key)
			case c.Has(key):
				return fmt.Errorf("unable to set and delete option '%s' at the same time", key)
			}
			if err := p.forget(s.Type, id, key); err != nil {
				return err
			}
			if err := d.Set(id, key); err != nil {
				return err
			}
		}
		return p.put(d, s.Type, c)
	})
}

func (p Place) remove(ctx context.Context, c *cli.Call) error {
	id, kind := c.Value("storage"), ""
	err := p.edit(ctx, c, func(d *section.Document) error {
		s, exists := d.Section(id)
		if !exists {
			return fmt.Errorf("delete storage failed: storage '%s' does not exist", id)
		}
		kind = s.Type
		return d.Remove(id)
	})
	if err != nil {
		return err
	}
	return p.forget(kind, id, "")
}

// put writes the options of a call into a section.
func (p Place) put(d *section.Document, kind string, c *cli.Call) error {
	id := c.Value("storage")
	for _, key := range c.Given {
		if key == "delete" || key == "digest" {
			continue
		}
		value := c.Value(key)
		if s, ok := secretOf(kind, key); ok {
			shown, err := p.keep(s, id, c)
			if err != nil {
				return err
			}
			if value = shown; value == "" {
				continue
			}
		}
		if err := d.Set(id, key, value); err != nil {
			return err
		}
	}
	return nil
}

// edit changes storage.cfg under the lock that other tools take, and refuses
// what the file's own rules refuse.
func (p Place) edit(ctx context.Context, c *cli.Call, change func(*section.Document) error) error {
	return lock.With(ctx, p.Tree, lock.File(storage.File), func(context.Context) error {
		path := filepath.Join(p.Tree, storage.File)
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if digest := c.Value("digest"); digest != "" && digest != fmt.Sprintf("%x", sha1.Sum(text)) {
			return errors.New("detected modified configuration - file changed by other user? Try again")
		}
		d := section.ParseDocument(string(text), "")
		if err := change(d); err != nil {
			return err
		}
		if err := verify(c, d.String()); err != nil {
			return err
		}
		return os.WriteFile(path, []byte(d.String()), 0o640)
	})
}

// verify refuses a file in which the call's storage lacks something, or its
// settings mean nothing.
func verify(c *cli.Call, text string) error {
	id := c.Value("storage")
	parsed := section.Parse(definitions.Storage, storage.File, text, true)
	for _, r := range parsed.Rejected {
		if r.Section == id && c.Has(r.Key) {
			return fmt.Errorf("storage '%s': %s: %s", id, r.Key, r.Err)
		}
	}
	for _, s := range parsed.Sections {
		if s.ID == id && s.Broken {
			return fmt.Errorf("storage '%s': %v", id, parsed.Warnings)
		}
	}
	return nil
}
