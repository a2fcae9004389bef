--
-- PostgreSQL database dump
--

\restrict HKRtZom7vhmdyNLVRue3FupJx24ixh62PfftkPtAiKC4PovZcQRHVjz7DWSJBTL

-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)
-- Dumped by pg_dump version 15.18 (Debian 15.18-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: b; Type: TABLE; Schema: public; Owner: postgres
--

CREATE TABLE public.b (
    x integer
);


ALTER TABLE public.b OWNER TO postgres;

--
-- Data for Name: b; Type: TABLE DATA; Schema: public; Owner: postgres
--

COPY public.b (x) FROM stdin;
7
\.


--
-- PostgreSQL database dump complete
--

\unrestrict HKRtZom7vhmdyNLVRue3FupJx24ixh62PfftkPtAiKC4PovZcQRHVjz7DWSJBTL

