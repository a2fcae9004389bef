--
-- PostgreSQL database cluster dump
--

\restrict fPLagKjfkPhmBSdkr1j06HIeKu8R15jUrFaBXu8iaeNBfgB5c6lCAe5wJQu2Kh5

SET default_transaction_read_only = off;

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;

--
-- Roles
--

CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER INHERIT CREATEROLE CREATEDB LOGIN REPLICATION BYPASSRLS;

--
-- User Configurations
--








\unrestrict fPLagKjfkPhmBSdkr1j06HIeKu8R15jUrFaBXu8iaeNBfgB5c6lCAe5wJQu2Kh5

--
-- PostgreSQL database cluster dump complete
--

