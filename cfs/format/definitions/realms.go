package definitions

import (
	"etcpve/cfs/format/schema"
	"etcpve/cfs/format/section"
)

// Realms is domains.cfg: where users authenticate.
var Realms = &section.Definition{
	ID: length(0, 32, named("pve-realm")),
	Base: schema.Keys{
		"acr-values":        matches(`^[^\x00-\x1F\x7F <>#"]*$`),
		"audiences":         matches(`^[^\x00-\x1F\x7F <>#"]*$`),
		"autocreate":        boolean(),
		"base_dn":           text(256),
		"bind_dn":           text(256),
		"capath":            text(),
		"case-sensitive":    boolean(),
		"cert":              text(),
		"certkey":           text(),
		"client-id":         text(256),
		"client-key":        text(256),
		"comment":           text(4096),
		"default":           boolean(),
		"domain":            length(0, 256, matches(`\S+`)),
		"filter":            text(2048),
		"group_classes":     named("ldap-simple-attr-list"),
		"group_dn":          text(256),
		"group_filter":      text(2048),
		"group_name_attr":   length(0, 256, named("ldap-simple-attr")),
		"groups-autocreate": boolean(),
		"groups-claim":      length(0, 256, matches(`[A-Za-z0-9\.\-_]+`)),
		"groups-overwrite":  boolean(),
		"issuer-url":        text(256),
		"mode":              oneOf("ldap ldaps ldap+starttls"),
		"password":          text(),
		"port":              integer(1, 65535),
		"prompt":            matches(`(?:none|login|consent|select_account|\S+)`),
		"query-userinfo":    boolean(),
		"scopes":            text(),
		"secure":            boolean(),
		"server1":           length(0, 256, named("address")),
		"server2":           length(0, 256, named("address")),
		"sslversion":        oneOf("tlsv1 tlsv1_1 tlsv1_2 tlsv1_3"),
		"sync-defaults-options": properties(schema.Keys{
			"enable-new":      boolean(),
			"full":            boolean(),
			"purge":           boolean(),
			"remove-vanished": matches("(?:(?:(?:acl|properties|entry);)*(?:acl|properties|entry))|none"),
			"scope":           oneOf("users groups both"),
		}),
		"sync_attributes": matches(`\w+=[^,]+(,\s*\w+=[^,]+)*`),
		"tfa": length(0, 128, properties(schema.Keys{
			"digits": integer(6, 8),
			"id":     text(),
			"key":    text(),
			"step":   integer(10),
			"type":   required(oneOf("yubico oath")),
			"url":    text(),
		})),
		"user_attr":      length(0, 256, matches(`\S{2,}`)),
		"user_classes":   named("ldap-simple-attr-list"),
		"username-claim": text(),
		"verify":         boolean(),
	},
	Types: kinds(map[string]string{
		"ad":     "base_dn? bind_dn? capath? case-sensitive? cert? certkey? comment? default? domain filter? group_classes? group_dn? group_filter? group_name_attr? mode? password? port? secure? server1 server2? sslversion? sync-defaults-options? sync_attributes? tfa? user_attr? user_classes? verify?",
		"ldap":   "base_dn bind_dn? capath? case-sensitive? cert? certkey? comment? default? filter? group_classes? group_dn? group_filter? group_name_attr? mode? password? port? secure? server1 server2? sslversion? sync-defaults-options? sync_attributes? tfa? user_attr user_classes? verify?",
		"openid": "acr-values? audiences? autocreate? client-id client-key? comment? default? groups-autocreate? groups-claim? groups-overwrite? issuer-url prompt? query-userinfo? scopes? username-claim?!",
		"pam":    "comment? default? tfa?",
		"pve":    "comment? default? tfa?",
	}),
}
